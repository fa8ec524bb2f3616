"""Settings and resources of the tests: validated copies with other values."""

from typing import TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def with_changes(model: Model, **changes: object) -> Model:
    """A model with other values of some fields, validated like one that is read."""
    return type(model)(**{**dict(model), **changes})
