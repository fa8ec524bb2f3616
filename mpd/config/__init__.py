"""What config.yaml may say, and what it means to each stage.

- the sections, a module for each subject: models, chat, problems, generation, training, resources
- methods: the method grid; branches: its rows, each with its settings
- config: the whole file; checks: what fits together; parse: both, mistakes as sentences
- settings: what each stage is given
- reference: docs/config.md

Nothing here reads config.yaml. It imports pydantic and the standard library alone: the Snakefile
loads it, and so does a stage whose result is in the store.
"""

from mpd.config.config import Config
from mpd.config.parse import parse_config

__all__ = ["Config", "parse_config"]
