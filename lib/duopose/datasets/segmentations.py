"""Segmentations of COCO annotations, checked before pycocotools sees them.

Its C code trusts them: a far coordinate, a wrong size or a wrong sum of run lengths ends in a
segmentation fault, in gigabytes of memory or in a wrong mask. A segmentation is one of

    [[x, y, x, y, ...], ...]                           polygons
    {"size": [height, width], "counts": [n, n, ...]}   run lengths, 0 and 1 in turn, by columns
    {"size": [height, width], "counts": "text"}        the same, packed as by COCO's maskApi.c
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

MIN_POLYGON_NUMBERS = 6  # three points x, y; pycocotools crashes on fewer
MAX_COORDINATE = 100_000.0  # pixels, as the longest side of an image
# Length of a polygon's border in pixels; pycocotools makes 5 points of 16 bytes of each.
MAX_BORDER = 2_000_000.0
# Of the packed form, whose characters hold 5 bits each, from character 48 on.
FIRST_CHARACTER = 48
BITS = 5
CONTINUES = 0x20  # the number goes on in the next character
NEGATIVE = 0x10  # sign, in the last character of a number
MAX_CHARACTERS = 7  # of a number: 35 bits

Coordinate = Annotated[float, Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
RunLength = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class RunLengths(TypedDict):
    """COCO's run-length code of a mask."""

    size: list[int]  # height, width
    counts: list[RunLength] | str


Segmentation = list[list[Coordinate]] | RunLengths | None
_DECODER: msgspec.json.Decoder[Segmentation] = msgspec.json.Decoder(Segmentation)
NO_SEGMENTATION = "must be a list of polygons, or run lengths with 'size' and 'counts'"


class SegmentationError(ValueError):
    """What is wrong with a segmentation, as the end of a sentence."""

    def __init__(self, problem: str, detail: str = "") -> None:
        self.problem = problem  # the same for all segmentations with this mistake
        super().__init__(f"{problem} ({detail})" if detail else problem)


def as_json(segmentation: Any) -> bytes:
    """The segmentation as json text: as it is in a file, or of plain lists and mappings.

    SegmentationError where it is no json value.
    """
    if isinstance(segmentation, msgspec.Raw):
        return bytes(segmentation)
    try:
        return msgspec.json.encode(segmentation)
    except (TypeError, ValueError, RecursionError) as error:
        raise SegmentationError("is no json value", str(error)) from error


def read_segmentation(text: bytes, width: float, height: float) -> Segmentation:
    """The polygons or run lengths, safe for pycocotools; None for `null`, [] and polygons without.

    width, height: of the image. SegmentationError where they cannot be used.
    """
    try:
        segmentation = _DECODER.decode(text)
    except msgspec.ValidationError as error:
        raise SegmentationError(
            "must be a list of polygons, or run lengths with 'size' and 'counts'",
            _reason(str(error)),
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SegmentationError("is no valid json", str(error)) from error

    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        check_run_lengths(segmentation, width, height)
        return segmentation
    for polygon in segmentation:
        check_polygon(polygon)
    return segmentation


def _reason(message: str) -> str:
    text, _, where = message.partition(" - at `$")
    at = f" at {where.rstrip('`')}" if where else ""
    return f"{text[:1].lower()}{text[1:]}{at}"


# ---- polygons ----


def check_polygon(polygon: list[float]) -> None:
    """SegmentationError where the numbers are no points, or their border is too long."""
    if len(polygon) % 2:
        raise SegmentationError(
            "polygons must be lists of points x, y", f"one has {len(polygon)} numbers"
        )
    if not polygon:
        return
    # The exact length only where a bound on it does not suffice: nearly never.
    extent = max(polygon) - min(polygon)
    if len(polygon) * extent > MAX_BORDER and border_length(polygon) > MAX_BORDER:
        raise SegmentationError(f"polygons must have a border of at most {MAX_BORDER:.0f} pixels")


def border_length(polygon: list[float]) -> float:
    """The sum over the edges of the longer of width and height."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    edges = pairwise([*points, points[0]])
    return sum(max(abs(x2 - x1), abs(y2 - y1)) for (x1, y1), (x2, y2) in edges)


# ---- run lengths ----


def check_run_lengths(code: RunLengths, width: float, height: float) -> None:
    """SegmentationError where they are not of an image of this size, or do not cover it."""
    if code["size"] != [height, width]:
        raise SegmentationError(
            "run lengths: 'size' must be the image's [height, width]",
            f"it is {code['size'][:3]}, not [{height:g}, {width:g}]",
        )
    counts = code["counts"]
    lengths = unpack_counts(counts) if isinstance(counts, str) else counts
    total = sum(lengths)
    if total != width * height:
        raise SegmentationError(
            "run lengths must have the sum height * width",
            f"it is {total}, not {width * height:.0f}",
        )


def unpack_counts(text: str) -> list[int]:
    """The run lengths of the packed form; SegmentationError where it cannot be decoded.

    As rleFrString of COCO's maskApi.c: 5 bits a character, lowest first; from the fourth number on
    the difference to the number two before it.
    """
    counts: list[int] = []
    value = 0
    shift = 0
    for character in text:
        bits = ord(character) - FIRST_CHARACTER
        if not 0 <= bits < 2 * CONTINUES or shift >= BITS * MAX_CHARACTERS:
            raise SegmentationError("compressed run lengths cannot be decoded")
        value |= (bits & (CONTINUES - 1)) << shift
        shift += BITS
        if bits & CONTINUES:
            continue
        if bits & NEGATIVE:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            raise SegmentationError("compressed run lengths contain a negative length")
        counts.append(value)
        value = 0
        shift = 0

    if shift:
        raise SegmentationError("compressed run lengths end within a number")
    return counts
