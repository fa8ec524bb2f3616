"""What config.yaml may contain, and what it means for each stage.

- base: what all models share, and how a setting names the key it comes from
- models, chat, problems, generation, sample, compress, filter, logits, distill, evaluate, report:
  the sections, each beside the settings of its stage
- resources: the section that cannot change a result
- methods: the method grid; branches: its rows, each with its settings
- config: the whole file; checks: which of its keys conflict; parse: validation with all mistakes as
  sentences
- stages: the settings of every job
- keys, words, mistakes, reference: what --help, `python -m mpd.why` and docs/config.md say
- files: the local files that models and problems come from
- unique_keys: keys that a config file gives twice, and Python in it

Nothing here reads config.yaml. The package imports only pydantic, PyYAML and the standard library,
since the Snakefile loads it, and so does a stage whose result is already in the store.
"""

from mpd.config.config import Config
from mpd.config.parse import parse_config

__all__ = ["Config", "parse_config"]
