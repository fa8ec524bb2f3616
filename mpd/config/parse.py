"""From the content of the config files to a configuration that can run."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mpd.config import checks
from mpd.config.config import Config
from mpd.config.mistakes import sentences


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The validated configuration. Raises ValueError with one line for each mistake."""
    try:
        config = Config.model_validate(raw)
        lines = list(checks.conflicts(config))
    except ValidationError as error:
        lines = sentences(error, Config.model_json_schema())
    except ValueError as error:  # in rows of custom
        lines = str(error).splitlines()
    if lines:
        raise ValueError("\n".join(f"config: {line}" for line in dict.fromkeys(lines)))
    return config
