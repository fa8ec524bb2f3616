"""Text to token ids and back: prompts, completions, the answers in them, and their grading.

Nothing here runs a model or loads torch. It may import config and store.
"""
