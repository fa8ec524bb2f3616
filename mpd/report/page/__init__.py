"""The page of the report: tables, figures, templates, styles and the script.

It is given findings, and reads no files but the templates and assets beside it. It may import
mpd.report, for the names of what is measured. Jinja2, markupsafe and altair are imported here
alone.
"""
