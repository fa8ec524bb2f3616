"""What every program shares: command line, layout of results, progress, checks before a run.

It may import config, store and the embedded world's words (tiny). It knows no stage.
"""
