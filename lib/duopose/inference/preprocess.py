"""A whole image as network inputs, one per test scale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from duopose.geometry import InputFrame, resize_for_test


@dataclass(frozen=True)
class InputRule:
    """How test images are resized; `scales` are test scales, the merged input frame is that of scale 1."""

    input_size: int
    scales: tuple[float, ...] = (1.0,)
    legacy_alignment: bool = (
        False  # the family's half-pixel habits, for DATASET.HEATMAP_CENTRES rounded
    )

    def frames(self, width: int, height: int) -> tuple[InputFrame, ...]:
        """The input of each scale, for an image of that size in pixels."""
        smallest = min(self.scales)
        return tuple(
            resize_for_test(width, height, self.input_size, scale, smallest, self.legacy_alignment)
            for scale in self.scales
        )

    def merged_frame(self, width: int, height: int) -> InputFrame:
        """The frame in which the scales are merged: the input at scale 1, whether or not it is among the scales."""
        return resize_for_test(
            width, height, self.input_size, 1.0, min(1.0, *self.scales), self.legacy_alignment
        )


@dataclass(frozen=True)
class PreparedImage:
    """An image ready for the network."""

    image_id: int | str
    width: int  # of the image file, pixels
    height: int
    inputs: tuple[np.ndarray, ...]  # per scale (3, h, w) uint8 RGB
    image: np.ndarray | None = None  # (H, W, 3) uint8 RGB, kept only where it will be drawn


def prepare_image(
    image: np.ndarray, image_id: int | str, rule: InputRule, keep_image: bool = False
) -> PreparedImage:
    """Resize an image, (H, W, 3) uint8 RGB, for every scale; what lies outside the image is black, as in the family."""
    height, width = image.shape[:2]
    inputs = []
    for frame in rule.frames(width, height):
        warped = cv2.warpAffine(
            image, frame.affine.matrix, (frame.width, frame.height), flags=cv2.INTER_LINEAR
        )
        inputs.append(np.ascontiguousarray(warped.transpose(2, 0, 1)))
    return PreparedImage(image_id, width, height, tuple(inputs), image if keep_image else None)
