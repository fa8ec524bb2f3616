"""A trained student to hand over: a model folder and a data set folder, each with its card.

Everything is read from the results of an experiment and its notes; nothing is computed again.
`results` reads what is known of a student, `model` and `data` write the folders, `cards` their
README.md, and `hub` uploads them.
"""
