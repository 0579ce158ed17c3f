"""Maps made visible: heatmaps, tags, offsets as arrows, masks; and sheets of many images with titles."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from duopose.geometry import MapFrame
from duopose.visualize.draw import OUTLINE, Colour, draw_disc, draw_line

TITLE_HEIGHT = 22  # pixels of a sheet's title lines
BACKGROUND: Colour = (245, 245, 245)
MASKED: Colour = (230, 30, 60)
NOTHING: Colour = (40, 40, 40)  # where a tag map means nothing
HEAT = cv2.COLORMAP_INFERNO  # heatmap values
SPREAD = cv2.COLORMAP_TURBO  # tags: no order of importance, many colours


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray, highest: float = 1.0) -> np.ndarray:
    """`image` (H, W, 3) uint8 RGB darkened, under a heatmap (h, w) whose cells cover it evenly; `highest` is the brightest value."""
    values = np.clip(_enlarge(heatmap, image) / highest, 0.0, 1.0)
    colours = _coloured(values, HEAT).astype(np.float32)
    weight = np.sqrt(values)[..., None]  # low values show, too
    return _to_uint8(0.5 * image * (1 - weight) + colours * weight)


def colour_tags(
    tags: np.ndarray,
    image: np.ndarray,
    where: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """A tag map (h, w) in colours from the lowest to the highest, at the size of `image` (H, W, 3) and faintly over it.

    where: (h, w) bool, the cells whose tags mean something (near peaks); the others are left dark.
    limits: the values of the first and the last colour, to make several maps comparable; by default this map's own.
    """
    chosen = np.ones(tags.shape, dtype=bool) if where is None else where
    low, high = limits or (
        (float(tags[chosen].min()), float(tags[chosen].max())) if chosen.any() else (0.0, 1.0)
    )
    scaled = np.clip((tags - low) / max(high - low, 1e-6), 0.0, 1.0)
    colours = _coloured(_enlarge(scaled, image, cv2.INTER_NEAREST), SPREAD).astype(np.float32)
    shown = _enlarge(chosen.astype(np.float32), image, cv2.INTER_NEAREST)[..., None]
    return _to_uint8(
        shown * (0.75 * colours + 0.25 * image)
        + (1 - shown) * (0.25 * image + 0.75 * np.array(NOTHING))
    )


def overlay_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) uint8 RGB with what `mask` (h, w) leaves out (0) tinted and hatched."""
    left_out = _enlarge((np.asarray(mask) == 0).astype(np.float32), image, cv2.INTER_NEAREST) > 0.5
    rows, columns = np.indices(left_out.shape)
    hatched = (rows + columns) % 8 < 2
    weight = np.where(left_out, np.where(hatched, 0.9, 0.45), 0.0)[..., None]
    return _to_uint8(image * (1 - weight) + np.array(MASKED) * weight)


def draw_arrows(
    image: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    colours: Sequence[Colour],
    width: int = 1,
) -> np.ndarray:
    """A copy of `image` with an arrow from each of `starts` to the same row of `ends`, (N, 2) x, y in the image's pixels."""
    canvas = np.ascontiguousarray(image).copy()
    for start, end, colour in zip(starts, ends, colours, strict=True):
        draw_line(canvas, start, end, colour, width)
        length = float(np.hypot(*(end - start)))
        if length > 1:
            _draw_head(
                canvas,
                end,
                (end - start) / length,
                min(0.3 * length, 4.0 + 2.0 * width),
                colour,
                width,
            )
        draw_disc(canvas, start, width, colour)
    return canvas


def window_arrows(
    cells: np.ndarray, offsets_yx: np.ndarray, map_width: int, frame: MapFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (N, 2) x, y in input pixels of offsets given at map cells.

    cells: (N,) y * map_width + x. offsets_yx: (N, 2) y, x of target - pixel in input pixels, as `OffsetTargets` holds them.
    """
    starts = frame.to_input(
        np.stack([cells % map_width, cells // map_width], axis=1).astype(np.float64)
    )
    return starts, starts + offsets_yx[:, ::-1]


def sheet(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 0, gap: int = 6
) -> np.ndarray:
    """Images (H, W, 3) uint8 RGB of any sizes with a title above each, in rows; columns 0: about as wide as high."""
    if len(images) != len(titles) or not images:
        raise ValueError(
            f"a sheet needs at least one image and a title for each, got {len(images)} images and {len(titles)} titles"
        )
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    cell_height, cell_width = height + TITLE_HEIGHT + gap, width + gap
    rows = -(-len(images) // columns)
    canvas = np.full(
        (rows * cell_height + gap, columns * cell_width + gap, 3), BACKGROUND, dtype=np.uint8
    )
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        top, left = gap + number // columns * cell_height, gap + number % columns * cell_width
        _write(canvas[top : top + TITLE_HEIGHT, left : left + width], title)
        canvas[top + TITLE_HEIGHT :, left:][: image.shape[0], : image.shape[1]] = image
    return canvas


def heatmap_sheet(
    image: np.ndarray, heatmaps: np.ndarray, titles: Sequence[str], columns: int = 0
) -> np.ndarray:
    """All of `heatmaps` (K, h, w), each over the image; titles carry the highest value."""
    images = [overlay_heatmap(image, heatmap) for heatmap in heatmaps]
    return sheet(
        images,
        [f"{title} {heatmap.max():.2f}" for title, heatmap in zip(titles, heatmaps, strict=True)],
        columns,
    )


def tag_sheet(
    image: np.ndarray,
    tags: np.ndarray,
    heatmaps: np.ndarray,
    titles: Sequence[str],
    columns: int = 0,
) -> np.ndarray:
    """All of `tags` (K, h, w) where `heatmaps` (K, h, w) exceed 0.1, in one range of colours."""
    where = heatmaps > 0.1
    limits = (float(tags[where].min()), float(tags[where].max())) if where.any() else (0.0, 1.0)
    images = [
        colour_tags(one, image, chosen, limits) for one, chosen in zip(tags, where, strict=True)
    ]
    return sheet(
        images, [f"{title} {limits[0]:.2f} ... {limits[1]:.2f}" for title in titles], columns
    )


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """The image, made smaller if a side exceeds `longest`."""
    factor = longest / max(image.shape[:2])
    return (
        image
        if factor >= 1
        else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    )


def _draw_head(
    canvas: np.ndarray,
    tip: np.ndarray,
    direction: np.ndarray,
    length: float,
    colour: Colour,
    width: int,
) -> None:
    sideways = np.array([-direction[1], direction[0]])
    for side in (-0.5, 0.5):
        draw_line(canvas, tip, tip - length * (direction + side * sideways), colour, width)


def _enlarge(
    map_: np.ndarray, image: np.ndarray, interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    return cv2.resize(
        np.asarray(map_, dtype=np.float32), image.shape[1::-1], interpolation=interpolation
    )


def _coloured(values: np.ndarray, colourmap: int) -> np.ndarray:
    """(H, W) in 0 ... 1 -> (H, W, 3) RGB."""
    return cv2.cvtColor(
        cv2.applyColorMap(np.round(255 * values).astype(np.uint8), colourmap), cv2.COLOR_BGR2RGB
    )


def _write(canvas: np.ndarray, text: str) -> None:
    """A line of text, made narrower where it would not fit."""
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    size = 0.5 * min(1.0, (canvas.shape[1] - 4) / max(text_width, 1))
    cv2.putText(
        canvas,
        text,
        (2, canvas.shape[0] - 7),
        cv2.FONT_HERSHEY_SIMPLEX,
        size,
        OUTLINE,
        1,
        cv2.LINE_AA,
    )


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
