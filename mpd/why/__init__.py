"""why: what would run again, and which settings or inputs make it.

It may import config, store and job.
"""
