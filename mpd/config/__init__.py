"""What config.yaml may say, and what it means to each stage.

- base: what sections share, and how a setting says which key it comes from
- models, chat, problems, generation, sample, compress, filter, logits, distill, evaluate, report:
  the sections, each with the settings of its stage beside it; resources: what changes no result
- methods: the method grid; branches: its rows, each with its settings
- config: the whole file; checks: what fits together; parse: both, with mistakes as sentences
- stages: the settings of every job
- keys, words, mistakes, reference: what help, `why` and docs/config.md say of all these
- files: the local files that sources name

Nothing here reads config.yaml. It imports pydantic and the standard library alone: the Snakefile
loads it, and so does a stage whose result is in the store.
"""

from mpd.config.config import Config
from mpd.config.parse import parse_config

__all__ = ["Config", "parse_config"]
