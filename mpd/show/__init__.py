"""show: trajectories, their rewrites and their cache, in a terminal.

It may import config, store, job, text and scoring, and changes nothing.
"""
