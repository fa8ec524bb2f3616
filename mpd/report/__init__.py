"""What the report says: statistics of the students, and what is read from the files of the rounds.

Modules here know numbers and files but no markup; `page` draws it. They may import config, store,
job, text and scoring, never a stage, and never `page`.
"""
