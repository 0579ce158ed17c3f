"""Maps and training samples as images: heatmaps, tags, offsets, masks, and grids of these."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from duopose.geometry import Affine, MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import OffsetTargets, Sample, TagTargets
from duopose.visualize.draw import (
    OUTLINE,
    WHITE,
    Colour,
    draw_disc,
    draw_ground_truth,
    draw_line,
    person_shades,
)

TITLE_HEIGHT = 22  # pixels of the title lines
GRID_GAP = 6  # pixels between the images of a grid
ARROW_SPACING = 5  # cells between the arrows drawn of an offset window
BACKGROUND: Colour = (245, 245, 245)
MASKED: Colour = (230, 30, 60)
NO_TAG: Colour = (40, 40, 40)  # cells whose tag has no meaning
HEATMAP_COLOURS = cv2.COLORMAP_INFERNO
TAG_COLOURS = cv2.COLORMAP_TURBO  # many distinct colours, none more important


# ---- maps over an image ----


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray, highest: float = 1.0) -> np.ndarray:
    """A heatmap (h, w) over the darkened `image` (H, W, 3) uint8 RGB, which its cells cover.

    highest: the value of the brightest colour.
    """
    resized = _resize_to(heatmap, image)
    values = np.clip(resized / highest, 0.0, 1.0)
    colours = _apply_colours(values, HEATMAP_COLOURS)
    weight = np.sqrt(values)  # the root makes low values visible
    return _blend(0.5 * image, colours, weight)


def colour_tags(
    tags: np.ndarray,
    image: np.ndarray,
    is_valid: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """A tag map (h, w) in colours at the size of `image` (H, W, 3), which shows through faintly.

    is_valid: (h, w) bool, the cells whose tags have a meaning (near peaks); others are dark.
    limits: values of the first and last colour, to make several maps comparable; by default the
    map's own lowest and highest.
    """
    chosen = np.ones(tags.shape, dtype=bool) if is_valid is None else is_valid
    low, high = limits or _limits(tags, chosen)
    span = max(high - low, 1e-6)
    scaled = np.clip((tags - low) / span, 0.0, 1.0)
    resized = _resize_to(scaled, image, cv2.INTER_NEAREST)
    colours = _apply_colours(resized, TAG_COLOURS)

    valid = 0.75 * colours + 0.25 * image
    invalid = 0.75 * np.array(NO_TAG) + 0.25 * image
    weight = _resize_to(chosen, image, cv2.INTER_NEAREST)
    return _blend(invalid, valid, weight)


def overlay_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`image` (H, W, 3) uint8 RGB; where `mask` (h, w) is 0 it is tinted and hatched."""
    is_masked = _resize_to(np.asarray(mask) == 0, image, cv2.INTER_NEAREST) > 0.5
    rows, columns = np.indices(is_masked.shape)
    is_hatch = (rows + columns) % 8 < 2
    tint = np.where(is_hatch, 0.9, 0.45)
    weight = np.where(is_masked, tint, 0.0)
    return _blend(image, np.array(MASKED), weight)


def draw_arrows(
    image: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    colours: Sequence[Colour],
    width: int = 1,
) -> np.ndarray:
    """A copy of `image` with arrows from `starts` to `ends`, (N, 2) x, y in the image's pixels."""
    canvas = np.ascontiguousarray(image).copy()
    for start, end, colour in zip(starts, ends, colours, strict=True):
        draw_line(canvas, start, end, colour, width)
        length = float(np.linalg.norm(end - start))
        if length > 1:
            head_length = min(0.3 * length, 4.0 + 2.0 * width)
            _draw_arrow_head(canvas, end, (end - start) / length, head_length, colour, width)
        draw_disc(canvas, start, width, colour)
    return canvas


def window_arrows(
    cells: np.ndarray, offsets_yx: np.ndarray, map_width: int, frame: MapFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (N, 2) x, y in input pixels of offsets at map cells.

    cells: (N,) y * map_width + x.
    offsets_yx: (N, 2) y, x of target - pixel in input pixels, as `OffsetTargets` holds them.
    """
    positions = np.stack([cells % map_width, cells // map_width], axis=1)
    starts = frame.to_input(positions.astype(np.float64))
    return starts, starts + offsets_yx[:, ::-1]


# ---- training samples and their targets ----


def sample_image(sample: Sample, skeleton: Skeleton, enlarge: int = 1) -> np.ndarray:
    """A sample with its people, their centres, the mask, and the first person's joint names.

    The mask is the sample's own; after the transforms, that of the finest map.
    enlarge: size of the result, in sizes of the sample.
    """
    keypoints = _enlarge_points(sample.keypoints, enlarge)
    mask = sample.masks[-1] if sample.masks else sample.mask
    image = overlay_mask(enlarge_image(sample.image, enlarge), mask)
    canvas = draw_ground_truth(image, keypoints, skeleton)

    for person in range(len(keypoints)):
        draw_centre(canvas, keypoints[person], person)
    if len(keypoints):
        write_names(canvas, keypoints[0], skeleton.keypoints)
    return canvas


def heatmap_grid(image: np.ndarray, heatmaps: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A grid of heatmaps (K or K+1, h, w) over the image; titles give the highest values."""
    names = _channel_names(skeleton, len(heatmaps))
    highest = heatmaps.max(axis=(1, 2)).tolist()
    titles = [f"{name}, max {value:.2f}" for name, value in zip(names, highest, strict=True)]
    return make_grid([overlay_heatmap(image, heatmap) for heatmap in heatmaps], titles)


def tag_grid(
    image: np.ndarray, tags: np.ndarray, heatmaps: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """A grid of tags (K or K+1, h, w) where the heatmaps exceed 0.1, in one range of colours."""
    is_valid = heatmaps > 0.1
    limits = _limits(tags, is_valid)
    low, high = limits
    images = [
        colour_tags(maps, image, valid, limits) for maps, valid in zip(tags, is_valid, strict=True)
    ]
    names = _channel_names(skeleton, len(tags))
    return make_grid(images, [f"{name} {low:.2f} ... {high:.2f}" for name in names])


def tag_image(
    sample: Sample, tags: TagTargets, row: int, map_width: int, frame: MapFrame, enlarge: int = 1
) -> np.ndarray:
    """The cells at which each person's tags are read, as squares in the person's colour.

    row: index of the sample in the batch of `tags`.
    """
    canvas = enlarge_image(sample.image, enlarge) // 2
    half = enlarge * frame.stride / 2
    for person in range(tags.cells.shape[1]):
        valid = tags.valid[row, person].numpy()
        cells = tags.cells[row, person].numpy()[valid]
        centres, _ = window_arrows(cells, np.zeros((len(cells), 2)), map_width, frame)
        for x, y in _enlarge_points(centres, enlarge):
            first = (round(x - half), round(y - half))
            last = (round(x + half), round(y + half))
            cv2.rectangle(canvas, first, last, person_shades(person).middle, cv2.FILLED)
    return canvas


def offset_image(
    sample: Sample,
    offsets: OffsetTargets,
    row: int,
    edges: Sequence[int],
    map_width: int,
    frame: MapFrame,
    skeleton: Skeleton,
    enlarge: int,
) -> np.ndarray:
    """Offset targets of some edges as arrows, at every ARROW_SPACING-th cell each way.

    row: index of the sample in the batch of `offsets`.
    """
    keypoints = _enlarge_points(sample.keypoints, enlarge)
    image = enlarge_image(sample.image, enlarge)
    canvas = draw_ground_truth(image // 2 + 96, keypoints, skeleton)
    for person in range(len(keypoints)):
        draw_centre(canvas, keypoints[person], person)

    all_cells = offsets.cell.numpy()
    on_grid = (all_cells % map_width % ARROW_SPACING == 0) & (
        all_cells // map_width % ARROW_SPACING == 0
    )
    in_sample = offsets.image.numpy() == row
    for number, edge in enumerate(edges):
        chosen = in_sample & on_grid & (offsets.edge.numpy() == edge)
        values = offsets.offset.numpy()[chosen]
        starts, ends = window_arrows(all_cells[chosen], values, map_width, frame)
        starts = _enlarge_points(starts, enlarge)
        ends = _enlarge_points(ends, enlarge)
        colours = [person_shades(number).middle] * len(starts)
        canvas = draw_arrows(canvas, starts, ends, colours)
    return canvas


def edges_by_target(layout: OffsetLayout, skeleton: Skeleton) -> dict[str, list[int]]:
    """The layout's edges in groups that fit into one image each, by the group's title."""
    is_forward = np.arange(layout.num_edges) < layout.num_forward
    to_centre = layout.target == skeleton.centre
    from_limb = np.isin(layout.source, skeleton.limb_indices)
    groups = {
        "limb joints to parents": is_forward & ~to_centre,
        "limb joints to centres": to_centre & from_limb,
        "centre-only joints to centres": to_centre & ~from_limb,
        "parents back to limb joints": ~is_forward,
    }
    return {
        title: np.flatnonzero(chosen).tolist() for title, chosen in groups.items() if chosen.any()
    }


def draw_centre(canvas: np.ndarray, keypoints: np.ndarray, person: int) -> None:
    """A ring at the mean of a person's labelled keypoints (K, 3), in place."""
    labelled = keypoints[:, 2] > 0
    if not labelled.any():
        return
    centre = keypoints[labelled, :2].mean(axis=0)
    for radius, colour in ((7, OUTLINE), (6, WHITE), (4, person_shades(person).middle)):
        draw_disc(canvas, centre, radius, colour)


def write_names(canvas: np.ndarray, keypoints: np.ndarray, names: Sequence[str]) -> None:
    """The names beside a person's labelled keypoints (K, 3), in place."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    for (x, y, visibility), name in zip(keypoints.tolist(), names, strict=True):
        if visibility > 0:
            position = (round(x) + 5, round(y) + 4)
            cv2.putText(canvas, name, position, font, 0.36, OUTLINE, 3, cv2.LINE_AA)
            cv2.putText(canvas, name, position, font, 0.36, WHITE, 1, cv2.LINE_AA)


# ---- grids of images ----


def make_grid(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 0) -> np.ndarray:
    """Images (H, W, 3) uint8 RGB of any sizes in rows, with a title above each.

    columns: 0 makes about as many columns as rows. Raises ValueError unless every image has a
    title and there is at least one.
    """
    if len(images) != len(titles) or not images:
        raise ValueError(
            "a grid needs at least one image and a title for each, got "
            f"{len(images)} images and {len(titles)} titles"
        )
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    width = max(image.shape[1] for image in images)
    cell_height = max(image.shape[0] for image in images) + TITLE_HEIGHT + GRID_GAP
    cell_width = width + GRID_GAP

    size = (rows * cell_height + GRID_GAP, columns * cell_width + GRID_GAP, 3)
    canvas = np.full(size, BACKGROUND, dtype=np.uint8)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        top = GRID_GAP + row * cell_height
        left = GRID_GAP + column * cell_width
        _write_title(canvas[top : top + TITLE_HEIGHT, left : left + width], title)
        image_height, image_width = image.shape[:2]
        canvas[top + TITLE_HEIGHT :, left:][:image_height, :image_width] = image
    return canvas


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """The image, reduced if its long side exceeds `longest` pixels."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def enlarge_image(image: np.ndarray, factor: int) -> np.ndarray:
    """The image, `factor` times as wide and high."""
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def enlargement(image: np.ndarray, width: int) -> int:
    """The whole factor that makes the image about `width` pixels wide; 1 for large images."""
    return max(1, round(width / image.shape[1]))


# ---- helpers ----


def _channel_names(skeleton: Skeleton, num_channels: int) -> list[str]:
    """The baseline's maps have no centre channel."""
    return [*skeleton.keypoints, "centre"][:num_channels]


def _limits(tags: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    if not chosen.any():
        return 0.0, 1.0
    return float(tags[chosen].min()), float(tags[chosen].max())


def _draw_arrow_head(
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


def _resize_to(
    map_: np.ndarray, image: np.ndarray, interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """A map (h, w) at the image's size, float32."""
    values = np.asarray(map_, dtype=np.float32)
    return cv2.resize(values, image.shape[1::-1], interpolation=interpolation)


def _enlarge_points(points: np.ndarray, factor: int) -> np.ndarray:
    """Points (..., >= 2) in an image enlarged by `enlarge_image`; further columns are kept."""
    return Affine.resize(factor, factor).apply(np.asarray(points, dtype=np.float64))


def _apply_colours(values: np.ndarray, colour_map: int) -> np.ndarray:
    """(H, W) from 0 to 1 -> (H, W, 3) float32 RGB."""
    indices = np.round(255 * values).astype(np.uint8)
    bgr = cv2.applyColorMap(indices, colour_map)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.float32)


def _write_title(canvas: np.ndarray, text: str) -> None:
    """A line of text, reduced if it is wider than the canvas."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, _), _ = cv2.getTextSize(text, font, 0.5, 1)
    scale = 0.5 * min(1.0, (canvas.shape[1] - 4) / max(text_width, 1))
    position = (2, canvas.shape[0] - 7)
    cv2.putText(canvas, text, position, font, scale, OUTLINE, 1, cv2.LINE_AA)


def _blend(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Two RGB images, `above` with a weight (H, W) from 0 to 1, as uint8."""
    opacity = weight[..., None]
    blended = (1 - opacity) * below + opacity * above
    in_range = np.clip(np.round(blended), 0, 255)
    return in_range.astype(np.uint8)
