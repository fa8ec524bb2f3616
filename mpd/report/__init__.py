"""What the report says: statistics of the students, and what is read from the files of the rounds.

Here belongs what knows numbers and files but no markup; `page` draws it. It may import the store's
modules (schema, table) and those of cached scores, never a stage, and never `page`.
"""
