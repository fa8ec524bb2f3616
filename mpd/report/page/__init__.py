"""The page of the report: tables, figures, templates, styles and the script.

Here belongs what draws and knows no files: it is given findings, and reads only the templates and
assets beside it. It may import mpd.report, for the names of what is measured. Jinja2, markupsafe
and altair are imported in this package alone.
"""
