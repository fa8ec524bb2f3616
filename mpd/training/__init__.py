"""Training on the cache: batches, the objective, the loop.

It may import config, store, job, text and scoring.
"""
