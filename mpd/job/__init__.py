"""What every program shares: command line, Ctrl-C, layout, progress, work ahead, early checks.

It also has what a run does beside Snakemake (runs). It may import config, store and the embedded
world's words (tiny). It knows no stage.
"""
