"""plan: what a run will take, computed from its configuration before anything is paid.

Jobs, tokens, operations, hours, memory, disk and files of each stage and round; formulas and
assumptions are in docs/planning.md. No model is loaded. It may import config, store, tiny and job.
"""
