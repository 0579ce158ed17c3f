"""Inference: people of an image, and the score of a data set."""
