"""Checks of a data set before training: one message per kind of problem, with the first ids.

`findings` collects messages, `records` checks the annotation file, `splits` checks the image files,
the split as a whole, and two splits against each other.
"""
