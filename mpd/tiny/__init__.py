"""The embedded worlds: small models that are really trained here, with nothing downloaded.

Problems are chains of additions and subtractions (task), written in a word-level vocabulary
(tokenizer). A verbose student learns to restate, doubt and verify, and makes slips now and then. A
larger teacher learns to solve concisely, and to rewrite or to refine a draft (examples, pretrain,
with muon and sizes). Both are ordinary Qwen3 folders, so that the pipeline treats them like any
other model. It may import store.
"""
