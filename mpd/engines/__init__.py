"""Generation: requests go in, completions come out, whatever engine makes them.

Shapes: R sequences of a batch, T tokens of a sequence, V vocabulary (the tokenizer's tokens),
N completion positions of all sequences, one sequence after another, J candidates of a position.

It may import config, store, job and text.
"""
