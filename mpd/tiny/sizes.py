"""Sizes of the student and the teacher of the embedded world, and of their pretraining."""

from dataclasses import dataclass

HEAD_SIZE = 32
CONTEXT_LENGTH = 512  # tokens


@dataclass(frozen=True)
class Pretraining:
    """Sizes of a model and of its training."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    num_steps: int
    tokens_per_step: int = 1024
    learning_rate: float = 6e-3
    checkpoint_steps: int = 100


STUDENT = Pretraining(
    hidden_size=64,
    intermediate_size=192,
    num_layers=2,
    num_heads=2,
    num_key_value_heads=2,
    num_steps=1100,
)
TEACHER = Pretraining(
    hidden_size=128,
    intermediate_size=256,
    num_layers=3,
    num_heads=4,
    num_key_value_heads=2,
    num_steps=600,
    learning_rate=4e-3,
)
