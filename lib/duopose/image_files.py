"""The one reader of image files: bytes -> (H, W, 3) uint8 RGB, with bounds on memory and time.

Width and height are read from the header before anything is decoded, so that a small file cannot
ask for gigabytes. Kept as OpenCV does: grey is repeated, alpha is dropped, of 16 bits the upper 8
are kept, palettes and CMYK are converted.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from duopose.errors import BadSample, UserError
from duopose.files import write_atomically

# Longer sides are refused: cv2.warpAffine addresses pixels with 16 bits.
MAX_SIDE = 32_766
MAX_SCANS = 100  # of a progressive JPEG; each takes as long as a pass over the whole image
MAX_SEGMENTS = 1000  # of a JPEG file before its pixels
MAX_CHUNKS = 200_000  # of a PNG file; 8 kB each are usual

# EXIF orientation is ignored: annotations refer to the stored pixels (HigherHRNet ignores it, too).
_KEEP_ORIENTATION = cv2.IMREAD_IGNORE_ORIENTATION
# None before OpenCV 4.10, which then needs a conversion of its own.
_READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"zTXt", b"iTXt", b"tEXt")  # unpacked by libpng, and of no use for the pixels
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
# The names in PIL of other formats whose headers are read.
_OTHER_FORMATS = ("BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000", "AVIF", "SUN")


@dataclass(frozen=True)
class ImageLimits:
    """Bounds on image files; settings LIMITS.*."""

    # 360 MB of pixels; decoding a progressive file takes up to three times as much
    max_pixels: int = 120_000_000
    max_bytes: int = 256 * 2**20  # of a file; of a member of a zip when unpacked
    outside_links: bool = False  # links below the folder of images may lead out of it


def decode_image(
    content: bytes, limits: ImageLimits | None = None, upright: bool = False
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the bytes of a JPEG, PNG, WebP, BMP, TIFF ... file.

    upright: turned as its EXIF data says; by default the stored pixels, as COCO's annotations.
    BadSample, whose text goes on after a file's name, where the bytes are no image, are not
    complete, or ask for more than `limits`.
    """
    limits = limits or ImageLimits()
    header = read_header(content)
    check_size(header.width, header.height, limits)

    pixels = np.frombuffer(header.decodable or content, dtype=np.uint8)
    orientation = 0 if upright else _KEEP_ORIENTATION
    flags = orientation | (cv2.IMREAD_COLOR if _READ_RGB is None else _READ_RGB)
    try:
        image = cv2.imdecode(pixels, flags)
    except cv2.error as error:
        raise BadSample(f"cannot be read as an image ({error.err})") from error
    if image is None:
        raise BadSample(f"cannot be read as an image ({len(content)} bytes, {header.format})")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if _READ_RGB is None else image


@dataclass(frozen=True)
class Header:
    """What an image file says of itself."""

    format: str
    width: int
    height: int
    decodable: bytes = b""  # the file without what must not be unpacked; b"" for the file itself


def read_header(content: bytes) -> Header:
    """Width and height of an image file, without decoding it.

    BadSample where it is empty, no image, truncated, or made to take long.
    """
    if not content:
        raise BadSample("is empty (0 bytes)")
    if content.startswith(_JPEG_START):
        return _jpeg_header(content)
    if content.startswith(_PNG_START):
        return _png_header(content)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_OTHER_FORMATS) as image:
                return Header(image.format or "", *image.size)
    except Image.DecompressionBombError as error:
        raise BadSample(f"has too many pixels ({error})") from error
    except Exception as error:  # PIL's readers raise many kinds for damaged headers
        raise BadSample(f"cannot be read as an image ({len(content)} bytes)") from error


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """BadSample where an image has no pixels or more than `limits` and OpenCV allow."""
    if width < 1 or height < 1:
        raise BadSample(f"has no pixels ({width} x {height})")
    if width * height > limits.max_pixels:
        raise BadSample(
            f"has {width} x {height} pixels; at most {limits.max_pixels / 1e6:g} million are "
            "accepted (LIMITS.IMAGE_MEGAPIXELS): make it smaller, or cut it into parts",
            kind="has more pixels than LIMITS.IMAGE_MEGAPIXELS",
        )
    check_side(width, height)


def check_side(width: int, height: int) -> None:
    """BadSample where OpenCV cannot transform an image."""
    if max(width, height) > MAX_SIDE:
        raise BadSample(
            f"has {width} x {height} pixels; OpenCV can transform sides up to {MAX_SIDE}: make it "
            "smaller, or cut it into parts",
            kind=f"has a side of more than {MAX_SIDE} pixels",
        )


def check_aspect(width: int, height: int, max_aspect: float) -> None:
    """BadSample for a strip, whose network input would be as long and need memory without bound."""
    if max(width, height) > max_aspect * min(width, height):
        raise BadSample(
            f"has {width} x {height} pixels; the long side may be {max_aspect:g} times the short "
            "one at most (LIMITS.ASPECT): cut it into parts",
            kind="has a long side of more than LIMITS.ASPECT short sides",
        )


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG or JPEG file, by the suffix. UserError if that fails.

    A link that has the name of the file is replaced, not followed.
    """
    try:
        is_encoded, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not is_encoded:
            raise OSError(f"a {path.suffix} file cannot hold {image.shape[1]} x {image.shape[0]}")
        write_atomically(path, encoded.tobytes())
    except (OSError, cv2.error) as error:
        raise UserError(f"the image {path} could not be written: {error}") from error


def output_stem(position: int, name: object) -> str:
    """The name of an output file without its suffix: the place in the list and a cleaned stem.

    Names and ids come from annotation files and may be `../../secret`: they never become paths.
    """
    return f"{position:06d}_{safe_stem(str(name))}"


def safe_stem(name: str) -> str:
    """The last part of a name without its suffix, of letters, digits, - and _ alone."""
    last_part = re.split(r"[/\\]", name[-500:].rstrip("/\\"))[-1]
    stem = last_part.rsplit(".", 1)[0] if "." in last_part[1:] else last_part
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")
    return cleaned[:60] or "image"


# ---- headers ----


def _jpeg_header(content: bytes) -> Header:
    """Walks the segments to the first scan. T.81, table B.1, names the markers."""
    frame = None
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = content.find(b"\xff", position)
        if position < 0 or position + 10 > len(content):
            break
        marker = content[position + 1]
        if marker in (0x00, 0xFF):  # fill bytes
            position += 1
            continue
        if marker in _JPEG_WITHOUT_LENGTH:
            position += 2
            continue

        start = position + 4
        if marker in _JPEG_FRAMES and frame is None:
            height = int.from_bytes(content[start + 1 : start + 3], "big")
            width = int.from_bytes(content[start + 3 : start + 5], "big")
            frame = (marker, width, height, content[start + 5])
        elif marker == 0xDA and frame is not None:
            return _checked_jpeg(content, frame, start)
        elif marker in (0xD9, 0xDA):
            break
        position += 2 + int.from_bytes(content[position + 2 : start], "big")
    raise BadSample(f"cannot be read as an image (a JPEG without a header, {len(content)} bytes)")


def _checked_jpeg(content: bytes, frame: tuple[int, int, int, int], scan: int) -> Header:
    """scan: where the first one begins. Its pixels never look like an end marker."""
    marker, width, height, components = frame
    if content.rfind(_JPEG_END, scan) < 0:  # OpenCV would fill the missing part with grey
        raise BadSample(f"is truncated: a JPEG file without an end ({len(content)} bytes)")

    has_several_scans = marker in _JPEG_PROGRESSIVE or content[scan] < components
    if has_several_scans and content.count(b"\xff\xda") > MAX_SCANS:
        raise BadSample(f"is a JPEG of more than {MAX_SCANS} scans, which would take very long")
    return Header("JPEG", width, height)


def _png_header(content: bytes) -> Header:
    """Walks the chunks to the end. Texts are left out: a few kB of them unpack to gigabytes."""
    if content[12:16] != b"IHDR":
        raise BadSample("cannot be read as an image (a PNG without a header)")
    width = int.from_bytes(content[16:20], "big")
    height = int.from_bytes(content[20:24], "big")

    chunks: list[tuple[bytes, int, int]] = []  # kind, start, end
    position = len(_PNG_START)
    kind = b""
    while kind != b"IEND":
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        if end > len(content) or len(chunks) == MAX_CHUNKS:
            raise BadSample(f"is truncated: a PNG file without an end ({len(content)} bytes)")
        chunks.append((kind, position, end))
        position = end

    if not any(kind in _PNG_TEXTS for kind, _, _ in chunks):
        return Header("PNG", width, height)
    kept = [content[start:end] for kind, start, end in chunks if kind not in _PNG_TEXTS]
    return Header("PNG", width, height, _PNG_START + b"".join(kept))
