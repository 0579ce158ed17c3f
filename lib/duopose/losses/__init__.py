"""Losses between the network's output and the targets, as named terms."""

from duopose.losses.build import build_criterion

__all__ = ["build_criterion"]
