"""Log-probabilities: the forward pass, supports and tails, divergences, the cache and its decoding.

It may import config, store, job, text and engines. token_records, for those who look at a cache,
loads no torch.
"""
