"""Text to token ids and back: prompts, completions, their answers, and the grading of these.

Nothing here runs a model. It may import config and store.
"""
