"""The section models: which model is trained, and which one rewrites and scores."""

from typing import Annotated, Literal

from pydantic import Field

from mpd.config.base import COMMIT, Count, Section


class TinyModel(Section):
    """A model of the embedded world, pretrained on first use."""

    source: Literal["tiny"] = Field(description="a model of the embedded world")
    num_steps: Count | None = Field(None, description="pretraining steps; null: the world's own")


class FolderModel(Section):
    source: Literal["folder"] = Field(description="a model folder on this machine")
    path: str = Field(description="local folder with weights, tokenizer and chat template")


class HubModel(Section):
    source: Literal["hub"] = Field(description="a model of the Hugging Face hub")
    path: str = Field(description="name on the hub, such as Qwen/Qwen3-1.7B")
    revision: str = Field(
        pattern=COMMIT, description="full commit hash, so that a rerun means the same"
    )


class GgufModel(Section):
    source: Literal["gguf"] = Field(description="a GGUF file, unpacked")
    path: str = Field(description="GGUF file, or package:<package>/<file> of an installed package")


ModelSource = Annotated[
    TinyModel | FolderModel | HubModel | GgufModel, Field(discriminator="source")
]


class Models(Section):
    student: ModelSource = Field(description="the model that is trained; keys by source below")
    teacher: ModelSource = Field(
        description="the model that rewrites and scores; keys by source below"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="in which models generate and score; training keeps float32 weights"
    )
