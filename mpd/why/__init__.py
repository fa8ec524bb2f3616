"""why: what would run again and which settings or inputs make it; what was made from what.

It may import config, store and job.
"""
