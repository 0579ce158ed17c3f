"""A fixed evaluation set of mosaics: 2 x 2 images, pasted so that their people's boxes overlap.

With photographs of single people it measures grouping, which the photographs alone do not need.

    tiles  0 | 1      each scaled so that the box around its people has a random size of about
           2 | 3      half the canvas, and pasted with the box's inner corner beyond the middle:

    boxes of neighbours overlap by `overlap` of the smaller one's width (or height)
    a tile ends at the inner edges of its box, so its background covers nothing of the others
    tiles are painted in random order; a later one hides the joints of earlier ones below it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import orjson
from pycocotools import mask as coco_mask

from duopose.coco_annotations import Record, is_person, person_category, read_annotation_file
from duopose.datasets.annotations import (
    collect_people,
    crowd_index,
    person_area,
    person_category_record,
)
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.split_files import Layout, find_annotations, find_images
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.geometry import Affine
from duopose.json_files import MAX_MEMORY
from duopose.skeletons import Skeleton

NUM_TILES = 4
BOX_SIDES = (0.75, 1.0)  # range of the longer side of a tile's box / half the canvas
MAX_ENLARGEMENT = 1.5  # small boxes stay smaller, because enlarged photographs are blurred
# A hidden joint is labelled (visibility 1) up to this distance from the visible part of its tile,
# relative to the longer side of the tile's box; `sample_data.crowd` has the same limit.
MAX_HIDDEN_DISTANCE = 0.08
NOBODY = 255  # number of the tile where none covers the canvas
JPEG_QUALITY = 95


@dataclass(frozen=True)
class SourceImage:
    """An image with at least one labelled person."""

    dataset: CocoFormatDataset
    index: int
    people: list[Record]  # annotations of the labelled people


@dataclass(frozen=True)
class Tile:
    """A scaled source image and where it lies on the canvas."""

    image: np.ndarray  # (h, w, 3) uint8 RGB, scaled
    ignored: np.ndarray  # (h, w) bool: regions without labels
    people: list[Record]
    to_scaled: Affine  # image frame -> scaled image
    box: np.ndarray  # (4,) x1 y1 x2 y2 around all people, edges in pixels of the scaled image

    @property
    def box_sides(self) -> np.ndarray:
        """(2,) width, height of the box."""
        return self.box[2:] - self.box[:2]


def read_source(
    root: Path,
    layout: Layout,
    split: str,
    data_format: str,
    skeleton: Skeleton,
    max_memory: int = MAX_MEMORY,
) -> list[SourceImage]:
    """The images of a split that have labelled people; UserError where there are none.

    max_memory: bytes that the annotation file may need.
    """
    path = find_annotations(root, layout, split)
    file = read_annotation_file(path, max_memory)
    images = find_images(root, layout, split, data_format)
    dataset = CocoFormatDataset(collect_people(file, skeleton), images, skeleton, str(path))

    category = person_category(file.categories, skeleton.num_keypoints, path)
    people: dict[int | str | None, list[Record]] = {}
    for annotation in file.annotations:
        if is_person(annotation, category) and _is_labelled(annotation):
            people.setdefault(annotation.get("image_id"), []).append(annotation)

    found = []
    for index, image_id in enumerate(dataset.image_ids):
        if image_id in people:
            found.append(SourceImage(dataset, index, people[image_id]))
    if not found:
        raise UserError(f"annotation file {path}: no image has a person with a labelled keypoint")
    return found


def _is_labelled(annotation: Record) -> bool:
    visibilities = (annotation.get("keypoints") or [])[2::3]
    return not annotation.get("iscrowd") and any(value > 0 for value in visibilities)


def make_mosaic_set(
    sources: Sequence[SourceImage],
    out: Path,
    split: str,
    *,
    number: int,
    size: int,
    overlap: float,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write `number` mosaics of size x size pixels in COCO's layout; the number written.

    number: 0 uses each source image once. The same arguments give the same files. An image is used
    again only after all others.
    """
    if len(sources) < NUM_TILES:
        raise UserError(f"a mosaic needs {NUM_TILES} images with people, got {len(sources)}")

    number = number or len(sources) // NUM_TILES
    order = _draw_order(len(sources), number * NUM_TILES, seed)
    folder = out / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    images: list[Record] = []
    annotations: list[Record] = []

    for index in range(number):
        chosen = order[index * NUM_TILES : (index + 1) * NUM_TILES]
        rng = np.random.default_rng([seed, index])
        tiles = [_scale_tile(sources[position], rng, size) for position in chosen]
        image, people = compose(tiles, rng, size, overlap)

        image_id = index + 1
        name = f"{image_id:012d}.jpg"
        _write_image(folder / name, image)
        images.append(
            {"id": image_id, "file_name": name, "width": size, "height": size}
            | {"crowdIndex": crowd_index([one for one in people if not one["iscrowd"]])}
        )
        for person in people:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1}
            annotations.append(person | ids)
        if progress:
            progress(1)

    content = {
        "info": {"description": f"Mosaics of {NUM_TILES} images, boxes overlap by {overlap}"},
        "categories": [person_category_record(sources[0].dataset.skeleton)],
        "images": images,
        "annotations": annotations,
    }
    path = out / "annotations" / f"person_keypoints_{split}.json"
    write_atomically(path, orjson.dumps(content))
    return number


def _draw_order(num_sources: int, count: int, seed: int) -> list[int]:
    """`count` source positions: one random order of all after another."""
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(num_sources).tolist()
    return order[:count]


def _write_image(path: Path, image: np.ndarray) -> None:
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise UserError(f"cannot write {path}; is the disk full?")


# ---- one mosaic ----


def _scale_tile(source: SourceImage, rng: np.random.Generator, size: int) -> Tile:
    """The source image, scaled so that the box around its people has a random size."""
    sample = source.dataset.load(source.index)
    boxes = np.array([_person_box(person) for person in source.people])
    box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    wanted_side = rng.uniform(*BOX_SIDES) * size / 2
    factor = min(wanted_side / max(box[2:] - box[:2]), MAX_ENLARGEMENT)

    height, width = sample.image.shape[:2]
    scaled_size = max(round(width * factor), 1), max(round(height * factor), 1)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(sample.image, scaled_size, interpolation=method)
    mask = cv2.resize(sample.mask, scaled_size, interpolation=cv2.INTER_NEAREST)

    scale = np.array(scaled_size) / (width, height)
    to_scaled = Affine.resize(*scale.tolist())
    return Tile(image, mask == 0, source.people, to_scaled, box * np.tile(scale, 2))


def _person_box(person: Record) -> np.ndarray:
    """(4,) x1 y1 x2 y2 of the box and the labelled keypoints, edges in image pixels."""
    points = _labelled_points(person)
    low = points.min(0)
    high = points.max(0) + 1
    if person.get("bbox"):
        x, y, width, height = person["bbox"]
        low = np.minimum(low, (x, y))
        high = np.maximum(high, (x + width, y + height))
    return np.concatenate([low, high])


def _labelled_points(person: Record) -> np.ndarray:
    """(N, 2) x, y of the labelled keypoints."""
    keypoints = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)
    return keypoints[keypoints[:, 2] > 0, :2]


def compose(
    tiles: Sequence[Tile], rng: np.random.Generator, size: int, overlap: float
) -> tuple[np.ndarray, list[Record]]:
    """The mosaic (size, size, 3) uint8 RGB, and its annotations without their ids."""
    image = np.zeros((size, size, 3), dtype=np.uint8)
    tile_of_pixel = np.full((size, size), NOBODY, dtype=np.uint8)  # of the tile on top
    ignored = np.zeros((size, size), dtype=bool)
    corners = inner_corners([tile.box_sides for tile in tiles], size, overlap)
    shifts = [_shift_of(tile, number, corners[number]) for number, tile in enumerate(tiles)]

    for number in rng.permutation(NUM_TILES).tolist():
        tile = tiles[number]
        on_canvas, in_tile = _slices(tile, number, corners[number], shifts[number], size)
        image[on_canvas] = tile.image[in_tile]
        ignored[on_canvas] = tile.ignored[in_tile]
        tile_of_pixel[on_canvas] = number

    people: list[Record] = []
    for number, tile in enumerate(tiles):
        affine = tile.to_scaled.then(_translation(shifts[number]))
        people += _annotate(tile, affine, tile_of_pixel == number)
    if ignored.any():
        people.append(_ignored_region(ignored, len(tiles[0].people[0]["keypoints"])))
    return image, people


def inner_corners(sides: Sequence[np.ndarray], size: int, overlap: float) -> np.ndarray:
    """(4, 2) x, y of the corner of each tile's box that is nearest to the middle of the canvas.

    sides: width, height of the four boxes. Neighbours overlap by `overlap` of the smaller side.
    """
    corners = np.full((NUM_TILES, 2), size // 2)
    for axis, pairs in enumerate([((0, 1), (2, 3)), ((0, 2), (1, 3))]):
        for first, second in pairs:
            smaller = min(sides[first][axis], sides[second][axis])
            total = round(overlap * float(smaller))
            corners[first, axis] += total // 2
            corners[second, axis] -= total - total // 2
    return corners


def _is_far(number: int) -> tuple[bool, bool]:
    """Whether the tile is on the right, and whether it is in the lower row."""
    return number % 2 == 1, number >= 2


def _shift_of(tile: Tile, number: int, corner: np.ndarray) -> np.ndarray:
    """(2,) whole pixels from the scaled image to the canvas; the box's inner corner -> `corner`."""
    inner = np.where(_is_far(number), tile.box[:2], tile.box[2:])
    return np.rint(corner - inner).astype(int)


def _slices(
    tile: Tile, number: int, corner: np.ndarray, shift: np.ndarray, size: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that a tile paints: on the canvas, and the same in its scaled image."""
    is_far = _is_far(number)
    scaled_size = np.array(tile.image.shape[1::-1])
    low = np.maximum(np.where(is_far, corner, 0), shift)
    high = np.minimum(np.where(is_far, size, corner), shift + scaled_size)
    high = np.maximum(high, low)

    on_canvas = slice(low[1], high[1]), slice(low[0], high[0])
    start = low - shift
    stop = high - shift
    return on_canvas, (slice(start[1], stop[1]), slice(start[0], stop[0]))


def _translation(shift: np.ndarray) -> Affine:
    return Affine(np.column_stack([np.eye(2), shift]))


# ---- annotations ----


def _annotate(tile: Tile, affine: Affine, is_on_top: np.ndarray) -> list[Record]:
    """The people of a tile; is_on_top: (size, size) bool, the canvas pixels that show the tile."""
    is_covered = (~is_on_top).astype(np.uint8)
    distances = cv2.distanceTransform(is_covered, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    max_distance = MAX_HIDDEN_DISTANCE * float(tile.box_sides.max())
    size = len(is_on_top)

    annotations = []
    for person in tile.people:
        keypoints = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)
        moved = affine.apply(keypoints)
        for joint, (x, y, visibility) in enumerate(moved.tolist()):
            position = round(y), round(x)
            is_inside = all(0 <= value < size for value in position)
            if not (visibility and is_inside) or distances[position] > max_distance:
                moved[joint] = 0
            elif distances[position] > 0:
                moved[joint, 2] = 1

        box = _person_box(person)
        fields = _visible_box(affine.apply(box.reshape(2, 2) - 0.5) + 0.5, is_on_top)
        if fields is None:
            continue
        visible_box, visible_fraction = fields
        area = person_area(person, keypoints) * affine.scale**2 * visible_fraction
        annotations.append(
            {
                "iscrowd": 0,
                "num_keypoints": int((moved[:, 2] > 0).sum()),
                "keypoints": _rounded(moved),
                "bbox": visible_box,
                "area": round(area, 2),
            }
        )
    return annotations


def _rounded(keypoints: np.ndarray) -> list[float]:
    """Flat x, y, visibility; positions with two decimals, visibilities whole."""
    flat: list[float] = []
    for x, y, visibility in keypoints.tolist():
        flat += [round(x, 2), round(y, 2), int(visibility)]
    return flat


def _visible_box(corners: np.ndarray, is_on_top: np.ndarray) -> tuple[list[float], float] | None:
    """The visible part of a box as [x, y, width, height], and its fraction of the box's area.

    corners: (2, 2) x, y of the box's first and last edges. None where nothing is visible.
    """
    first = np.clip(np.floor(corners[0]).astype(int), 0, len(is_on_top))
    last = np.clip(np.ceil(corners[1]).astype(int), 0, len(is_on_top))
    visible = is_on_top[first[1] : last[1], first[0] : last[0]]
    if not visible.any():
        return None

    rows = np.flatnonzero(visible.any(1))
    columns = np.flatnonzero(visible.any(0))
    x = float(first[0] + columns[0])
    y = float(first[1] + rows[0])
    width = float(columns[-1] + 1 - columns[0])
    height = float(rows[-1] + 1 - rows[0])
    area = float(np.prod(corners[1] - corners[0]))
    return [x, y, width, height], min(float(visible.sum()) / area, 1.0)


def _ignored_region(region: np.ndarray, num_values: int) -> Record:
    """One crowd annotation of a region (H, W) bool."""
    code = coco_mask.encode(np.asfortranarray(region, dtype=np.uint8))
    return {
        "iscrowd": 1,
        "num_keypoints": 0,
        "keypoints": [0] * num_values,
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": float(region.sum()),
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
    }
