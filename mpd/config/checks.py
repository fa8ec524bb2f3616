"""Which losses a cache can give: the Snakefile asks before a run, distill in it."""


def require_exact(divergence: str | None, temperature: float, tail: str, cache: str) -> None:
    """Raise ValueError where settings of distill have no meaning on a cache, sparse or hidden."""
    if divergence == "cross_entropy" and (temperature != 1 or tail != "bucket"):
        raise ValueError(
            "distill.divergence: cross_entropy has neither temperature nor tail; leave them out"
        )
    if cache == "hidden" and tail != "bucket":
        raise ValueError("distill.tail: with logits.cache: hidden there is no tail; set bucket")
    if cache == "sparse" and temperature != 1:
        raise ValueError(
            f"distill.temperature is {temperature}, but the tail of a sparse cache has no "
            "temperature but 1; set it to 1, or logits.cache: hidden"
        )
