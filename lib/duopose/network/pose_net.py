"""`PoseNet` = a backbone and the heads of a method, and what a backbone must be.

    images (B, 3, H, W) -> backbone -> features (B, C, H/4, W/4) -> heads -> NetworkOutput

Adding a backbone takes two files: a module of its own with a subclass of `Backbone`, and one entry
in `BACKBONES` of `build.py`.
"""

from __future__ import annotations

import torch
from torch import nn

from duopose.types import NetworkOutput

INPUT_MULTIPLE = 32  # stride of the coarsest maps of every backbone here


class Backbone(nn.Module):
    """Base class of the backbones.

    `forward` takes images (B, 3, H, W), H and W multiples of `INPUT_MULTIPLE`, and returns features
    (B, out_channels, H/4, W/4). Module names should be those of the backbone's ImageNet weight
    file, so that the file loads. Layers which that file does not have go into a module `neck`.
    """

    out_channels: int

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class PoseNet(nn.Module):
    """A backbone followed by heads (`heads.py`), which turn features into a `NetworkOutput`."""

    def __init__(self, backbone: Backbone, heads: nn.Module) -> None:
        super().__init__()
        # The optimizer state in checkpoints is by parameter index: backbone first, then heads.
        self.backbone = backbone
        self.heads = heads

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """Normalised images (B, 3, H, W) -> maps at strides 4 and 2.

        H and W must be multiples of 32; ValueError on any other shape.
        """
        check_input_shape(images)
        output: NetworkOutput = self.heads(self.backbone(images))
        return output


def check_input_shape(images: torch.Tensor) -> None:
    """ValueError unless the images are (B, 3, H, W) with H and W multiples of 32."""
    if torch.compiler.is_compiling():  # torch.compile and torch.export guard shapes themselves
        return

    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"network input must be (B, 3, H, W), got {tuple(images.shape)}")

    height, width = images.shape[-2:]
    if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE or not height or not width:
        raise ValueError(
            f"height and width of the network input must be multiples of {INPUT_MULTIPLE}, "
            f"got height {height} and width {width}"
        )
