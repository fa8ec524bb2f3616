"""Bytes of a GPU that training takes beside weights, for training itself and for plans of it."""

CHUNK_SIZES = {"cuda": 4096, "cpu": 1024}  # positions, where the configuration names no number
DENSE_CHUNK_SIZE = 1024  # for a loss over the whole vocabulary, which takes several times as much
RESERVE = 0.06  # share of the GPU's memory that stays free: the allocator wastes some
# Bytes of a logit while a chunk's loss is computed: float32 product, exponentials and gradient, and
# the gradient in bfloat16. Autograd keeps more for a divergence over the whole vocabulary.
LOGIT_BYTES, DENSE_LOGIT_BYTES = 18, 66
WEIGHT_BYTES = 10  # of the output head: its gradient, scaled and cast


def head_bytes(rows: int, width: int, chunk_size: int, is_dense: bool) -> int:
    """Bytes that the loss of a chunk of positions takes, with an output head of rows by width.

    `is_dense`: the loss is a divergence over the whole vocabulary.
    """
    logit_bytes = DENSE_LOGIT_BYTES if is_dense else LOGIT_BYTES
    return rows * (chunk_size * logit_bytes + width * WEIGHT_BYTES)
