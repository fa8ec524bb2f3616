"""The embedded world: small models that are really trained here, with nothing downloaded.

Problems are chains of additions and subtractions (`task`), said in a word-level vocabulary
(`tokenizer`). A verbose student learns to restate, doubt and verify, and slips now and then; a
larger teacher learns to solve concisely, and to rewrite or to refine a draft (`examples`,
`pretrain`). Both are ordinary Qwen3 folders, so the pipeline treats them like any other model.
"""
