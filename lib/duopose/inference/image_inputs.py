"""The images that a user gives to a model: paths, arrays and PIL images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from duopose.errors import BadSample, UserError
from duopose.image_files import ImageLimits, decode_image
from duopose.regular_files import read_regular, reason_of

ImageLike = str | Path | np.ndarray | Image.Image


def to_rgb_array(
    image: ImageLike, where: str = "the image", limits: ImageLimits | None = None
) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    - A path: any file that OpenCV reads. - An array must be (H, W, 3) uint8 RGB already.
    - A PIL image: grey is repeated, alpha is dropped, of 16 bits the upper 8 are kept, other modes
      are converted by PIL. This is what OpenCV does to such files, so that a path and its opened
      PIL image give the same people.
    where: names the image in errors (UserError).
    """
    limits = limits or ImageLimits()
    if isinstance(image, (str, Path)):
        return _read_file(Path(image), where, limits)
    if isinstance(image, Image.Image):
        return _from_pil(image, where)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{where} is of type {type(image).__name__}; give a path, an array (H, W, 3) uint8 "
            "RGB or a PIL image, or a list of these"
        )

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            f"{where} is an array {image.shape} of {image.dtype}; it must be (H, W, 3) uint8 RGB"
        )
    return np.ascontiguousarray(image)


def _read_file(path: Path, where: str, limits: ImageLimits) -> np.ndarray:
    try:
        content = read_regular(path, limits.max_bytes)
        return decode_image(content, limits)
    except OSError as error:
        raise UserError(f"{named(path, where)} cannot be opened ({reason_of(error)})") from error
    except BadSample as error:
        raise UserError(f"{named(path, where)} {error}") from error


def named(image: ImageLike, where: str) -> str:
    """'image 3 of the list', and its path where it has one."""
    return f"{where}, '{image}'," if isinstance(image, (str, Path)) else where


def _from_pil(image: Image.Image, where: str) -> np.ndarray:
    try:
        if image.mode.startswith("I"):  # 16 bits a pixel, in PIL's names I;16, I;16B, I
            grey = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
            return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        if image.mode == "F":
            raise UserError(
                f"{where} is a PIL image of floats (mode F), whose range is unknown; "
                "convert it to RGB first"
            )
        if image.mode == "P":  # a palette may have transparent entries
            image = image.convert("RGBA")
        return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # a damaged file is read only now
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where} cannot be read by PIL: {error}") from error
