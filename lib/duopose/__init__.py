"""Duopose: bottom-up multi-person 2D pose estimation by Double Embedding."""

__version__ = "0.1.0"
