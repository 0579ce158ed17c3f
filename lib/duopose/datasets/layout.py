"""Layouts: where the annotations and images of a split are, relative to DATASET.ROOT.

Each benchmark has one (`benchmarks.BENCHMARKS`), as its authors or HigherHRNet's README lay the
files out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from duopose.datasets.image_files import FolderImages, ImageSource, ZipImages
from duopose.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Path patterns relative to the root; the first existing path is used.

    Patterns may contain {split}, the split's name, and {images}, the same without "-dev": COCO's
    split test-dev2017 uses the images of test2017.
    """

    annotations: tuple[str, ...]
    images: tuple[str, ...]


COCO_ANNOTATIONS = (
    "annotations/person_keypoints_{split}.json",
    "annotations/image_info_{split}.json",
)
COCO_IMAGES = ("images/{images}", "{images}")


def find_annotations(root: Path, layout: Layout, split: str, given: str = "") -> Path:
    """The annotation file of a split; UserError with the paths tried.

    given: a path (absolute or relative to root) that replaces the layout's patterns.
    """
    names = _candidates(layout.annotations, split, given)
    candidates = [root / name for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise _not_found(root, f"annotation file of split '{split}'", candidates, "ANNOTATIONS")


def find_images(
    root: Path, layout: Layout, split: str, data_format: str, given: str = ""
) -> ImageSource:
    """The folder (data_format 'jpg') or zip ('zip') of a split; UserError with the paths tried.

    given: a path (absolute or relative to root) that replaces the layout's patterns.
    """
    names = _candidates(layout.images, split, given)
    is_zip = data_format == "zip" or given.endswith(".zip")
    if is_zip and not given:
        names = [f"{name}.zip" for name in names]

    candidates = [root / name for name in names]
    for path in candidates:
        if is_zip and path.is_file():
            return ZipImages(path)
        if not is_zip and path.is_dir():
            return FolderImages(path)

    kind = "zip" if is_zip else "folder"
    raise _not_found(root, f"{kind} of images of split '{split}'", candidates, "IMAGES")


def _candidates(patterns: tuple[str, ...], split: str, given: str) -> list[str]:
    """The given path alone, else the layout's paths of the split."""
    if given:
        return [given]
    images = split.replace("-dev", "")
    return [pattern.format(split=split, images=images) for pattern in patterns]


def _not_found(root: Path, what: str, candidates: list[Path], key: str) -> UserError:
    listed = "".join(f"\n  {path}" for path in candidates)
    return UserError(
        f"the {what} was not found; tried{listed}\n"
        f"set DATASET.ROOT (now '{root}'), or give a path in DATASET.TRAIN_{key} or "
        f"DATASET.TEST_{key}; data/README.md shows the layouts"
    )
