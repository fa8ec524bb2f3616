"""vLLM with continuous batching: an engine that completes prompts, and a scorer of sequences.

- arguments: what an engine is started with, and what the user may add
- backends: one engine in this process, or replicas in processes of their own
- worker: methods that are added to vLLM's workers
- generation: the engine of the stages that generate; prompt_scorer: the teacher of `logits`
- errors: what vLLM raises, as sentences

vLLM is imported in this package alone, inside functions: only jobs that use it need it.
"""
