"""compare: several experiments side by side, in one page and a table.

It may import config, store, job and report, which has the statistics and draws the page.
"""
