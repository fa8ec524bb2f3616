"""The engine of a stage; the module of an engine is imported only where it is opened."""

from pathlib import Path

from mpd.config.generation import EngineSettings
from mpd.config.resources import GenerationResources
from mpd.engines.base import Engine


def open_engine(manifest: Path, settings: EngineSettings, resources: GenerationResources) -> Engine:
    """The engine that `settings` name, for the model of a manifest."""
    if settings.engine == "vllm":
        from mpd.engines.vllm.generation import VllmEngine

        return VllmEngine(manifest, settings, resources)
    if settings.engine == "server":
        from mpd.engines.server import ServerEngine

        return ServerEngine(manifest, resources, settings.section)
    from mpd.engines.transformers import TransformersEngine

    return TransformersEngine(manifest, settings.dtype, resources)
