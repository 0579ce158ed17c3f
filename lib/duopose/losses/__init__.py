"""How far the network's output is from the targets, as named terms."""

from duopose.losses.build import build_loss

__all__ = ["build_loss"]
