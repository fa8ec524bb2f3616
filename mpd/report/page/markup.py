"""Templates to HTML: all that they are given is escaped. Reads the files beside it.

Only text of type Markup goes in unchanged, each time with a comment that says why it is safe.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

SCRIPTS = (
    *("data.js", "align.js", "tokens.js", "address.js", "list.js", "filters.js", "histogram.js"),
    *("browser.js", "trajectory.js", "trajectories.js", "answer.js", "answers.js", "start.js"),
)


def asset(name: str) -> Markup:
    """A file of assets."""
    # Safe: a file of this package, which no model and no user wrote.
    return Markup((files(__package__) / "assets" / name).read_text(encoding="utf-8"))


def script() -> Markup:
    """The one script of the page."""
    # Safe: files of this package; a test asserts that they cannot end their element.
    return Markup('"use strict";\n') + Markup("\n").join(map(asset, SCRIPTS))


def script_digest() -> str:
    """The digest by which the content policy of the page allows its script."""
    return base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


@cache
def environment() -> Environment:
    """The templates; a variable that is not given is an error."""
    templates = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"asset": asset, "script": script, "script_digest": script_digest}
    return templates


def rendered(name: str, **values: Any) -> str:
    """The text of a template. Raises jinja2.UndefinedError where a variable is not given."""
    return environment().get_template(name).render(values)
