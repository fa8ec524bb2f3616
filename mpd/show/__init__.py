"""show: trajectories, their rewrites and their cache, in a terminal.

It may import what lies below the stages, and changes nothing.
"""
