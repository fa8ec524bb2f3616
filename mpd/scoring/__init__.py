"""Log-probabilities: the forward pass, supports and tails, divergences, the cache and its decoding.

Shapes, here and in mpd/training:

- R rows of a packed batch, T tokens of a row
- N completion positions of a batch or of a chunk of it, one sequence after another
- H hidden size; V vocabulary, which is the tokenizer's tokens without padded output rows
- C control ids; J candidates of a position, the most probable ids
- K support entries of a position: the realised id, the control ids, then candidates
- B tail buckets; M = K + B outcomes

It may import config, store, job, text and engines. What shows a cache (token_records) and the
layout that it reads (cache_layout) load no torch.
"""
