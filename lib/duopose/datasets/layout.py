"""Where annotations and images of a split lie: each benchmark's own layout, and what to say where nothing is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from duopose.datasets.image_files import FolderImages, ImageSource, ZipImages
from duopose.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Paths below the root, tried in this order. {split}: the split's name; {images}: the same without "-dev" (test-dev2017)."""

    annotations: tuple[str, ...]
    images: tuple[str, ...]


COCO_ANNOTATIONS = (
    "annotations/person_keypoints_{split}.json",
    "annotations/image_info_{split}.json",
)
COCO_IMAGES = ("images/{images}", "{images}")
LAYOUTS = {
    "coco": Layout(COCO_ANNOTATIONS, COCO_IMAGES),
    "crowdpose": Layout(
        ("json/crowdpose_{split}.json", "annotations/crowdpose_{split}.json", *COCO_ANNOTATIONS),
        (*COCO_IMAGES, "images"),
    ),
    "mpii": Layout(
        ("annotations/mpii_{split}.json", "annot/mpii_{split}.json", *COCO_ANNOTATIONS),
        (*COCO_IMAGES, "images"),
    ),
}


def find_annotations(root: Path, benchmark: str, split: str, given: str = "") -> Path:
    """The annotation file of a split; `given` (absolute or below root) rules. UserError with the paths tried."""
    return _first(
        root,
        given,
        _layout(benchmark).annotations,
        split,
        "",
        f"annotation file of split '{split}'",
        "ANNOTATIONS",
    )


def find_images(
    root: Path, benchmark: str, split: str, data_format: str, given: str = ""
) -> ImageSource:
    """The folder (data_format jpg) or zip of a split; `given` rules. UserError with the paths tried."""
    is_zip = data_format == "zip" or given.endswith(".zip")
    kind = "zip" if is_zip else "folder"
    path = _first(
        root,
        given,
        _layout(benchmark).images,
        split,
        ".zip" if is_zip else "",
        f"{kind} of images of split '{split}'",
        "IMAGES",
    )
    return ZipImages(path) if is_zip else FolderImages(path)


def _layout(benchmark: str) -> Layout:
    if benchmark not in LAYOUTS:
        raise UserError(
            f"there is no data layout '{benchmark}'; DATASET.DATASET is one of {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[benchmark]


def _first(
    root: Path, given: str, patterns: tuple[str, ...], split: str, suffix: str, what: str, key: str
) -> Path:
    names = (
        [given]
        if given
        else [
            pattern.format(split=split, images=split.replace("-dev", "")) + suffix
            for pattern in patterns
        ]
    )
    tried = [root / name for name in names]
    want_folder = key == "IMAGES" and not str(tried[0]).endswith(".zip")
    for path in tried:
        if path.is_dir() if want_folder else path.is_file():
            return path
    listed = "".join(f"\n  {path}" for path in tried)
    raise UserError(
        f"the {what} was not found; tried{listed}\nset DATASET.ROOT (now '{root}'), or DATASET.TRAIN_{key} / DATASET.TEST_{key} "
        f"to a path of your own; data/README.md shows the layouts"
    )
