"""Training on the cache: batches, the objective, the loop. Shapes are those of mpd/scoring.

It may import config, store, job, text and scoring.
"""
