"""Artifacts copied between this folder and an address, such as a bucket of an object store.

What is copied (scan), the address (remote), the list of the files of an experiment there (index),
and the copying itself (pushing, pulling). It may import job, config and store.
"""
