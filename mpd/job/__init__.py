"""What every program shares: command line, Ctrl-C, layout, progress, work ahead, early checks.

It may import config, store and the embedded world's words (tiny). It knows no stage.
"""
