"""The files of a split: where they are (`Layout`), and reading images from a folder or a zip.

Each benchmark has a layout (`benchmarks.BENCHMARKS`), as its authors or HigherHRNet's README lay
the files out. Images are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from duopose.errors import UserError

# Patterns of COCO's own layout, which other benchmarks accept, too.
COCO_ANNOTATIONS = (
    "annotations/person_keypoints_{split}.json",
    "annotations/image_info_{split}.json",
)
COCO_IMAGES = ("images/{images}", "{images}")

# EXIF orientation is ignored: annotations refer to the stored pixels (HigherHRNet ignores it, too).
BGR_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
RGB_FLAGS = (  # None before OpenCV 4.10, which then needs a conversion of its own
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if hasattr(cv2, "IMREAD_COLOR_RGB")
    else None
)


# ---- where the files are ----


@dataclass(frozen=True)
class Layout:
    """Path patterns relative to the root; the first existing path is used.

    Patterns may contain {split}, the split's name, and {images}, the same without "-dev": COCO's
    split test-dev2017 uses the images of test2017.
    """

    annotations: tuple[str, ...]
    images: tuple[str, ...]
    made_by: str = ""  # the tool that makes the files, for messages


def find_annotations(root: Path, layout: Layout, split: str, given: str = "") -> Path:
    """The annotation file of a split; UserError with the paths tried.

    given: a path (absolute or relative to root) that replaces the layout's patterns.
    """
    names = _candidates(layout.annotations, split, given)
    candidates = [root / name for name in names]
    for path in candidates:
        if path.is_file():
            return path
    what = f"annotation file of split '{split}'"
    raise _not_found(root, what, candidates, "ANNOTATIONS", layout.made_by)


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
    what = f"{kind} of images of split '{split}'"
    raise _not_found(root, what, candidates, "IMAGES", layout.made_by)


def _candidates(patterns: tuple[str, ...], split: str, given: str) -> list[str]:
    """The given path alone, else the layout's paths of the split."""
    if given:
        return [given]
    images = split.replace("-dev", "")
    return [pattern.format(split=split, images=images) for pattern in patterns]


def _not_found(root: Path, what: str, candidates: list[Path], key: str, made_by: str) -> UserError:
    listed = "".join(f"\n  {path}" for path in candidates)
    hint = f"; {made_by}" if made_by else ""
    return UserError(
        f"the {what} was not found; tried{listed}\n"
        f"set DATASET.ROOT (now '{root}'), or give a path in DATASET.TRAIN_{key} or "
        f"DATASET.TEST_{key}; data/README.md shows the layouts{hint}"
    )


# ---- images ----


class ImageSource(Protocol):
    """Where images come from. Both kinds can be sent to forked or spawned processes."""

    path: Path

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; OSError or KeyError where it does not exist."""
        ...

    def names(self) -> set[str]:
        """The names of the files."""
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that `read_bytes` does not accept, by the list of files."""
        ...


class FolderImages:
    """Images that are files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; OSError where it does not exist."""
        return (self.path / name).read_bytes()

    def names(self) -> set[str]:
        """Paths relative to the folder, with forward slashes."""
        found: set[str] = set()
        for folder, _, files in os.walk(self.path):
            relative = Path(folder).relative_to(self.path).as_posix()
            prefix = "" if relative == "." else f"{relative}/"
            found.update(f"{prefix}{file}" for file in files)
        return found

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are no files.

        The folder is listed once; only names that are not in the list (they may lead through
        links) are looked up one by one.
        """
        listed = self.names()
        return [name for name in names if name not in listed and not (self.path / name).is_file()]


class ZipImages:
    """Images inside a zip file. Names may omit the zip's only folder (`train2017/` in COCO's zips).

    Each process opens the file itself, because forked processes would share one file position.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Process id -> open zip and {name: name inside the zip}.
        self._opened: dict[int, tuple[zipfile.ZipFile, dict[str, str]]] = {}

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; KeyError where it does not exist."""
        archive, full_names = self._open()
        return archive.read(full_names[name])

    def names(self) -> set[str]:
        """Names of the files, without the zip's only folder."""
        _, full_names = self._open()
        return set(full_names)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not in the zip."""
        _, full_names = self._open()
        return [name for name in names if name not in full_names]

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, str]]:
        process_id = os.getpid()
        if process_id in self._opened:
            return self._opened[process_id]
        try:
            archive = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path} cannot be opened as a zip of images: {error}") from error
        self._opened = {process_id: (archive, _full_names(archive))}
        return self._opened[process_id]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": {}}


def _full_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Name without the zip's only folder -> name inside the zip."""
    files = [name for name in archive.namelist() if not name.endswith("/")]
    top_folders = {name.split("/", 1)[0] for name in files}
    has_one_folder = len(top_folders) == 1 and all("/" in name for name in files)
    prefix_length = len(f"{top_folders.pop()}/") if has_one_folder else 0
    return {name[prefix_length:]: name for name in files}


def read_image(source: ImageSource, name: str, image_id: int | str) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; UserError naming file and id where it is missing or broken."""
    where = f"image {name} (id {image_id}) in {source.path}"
    try:
        content = source.read_bytes(name)
    except (OSError, KeyError) as error:
        raise UserError(f"{where} is missing; tools/check_data.py lists all that are") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} is damaged: {error}") from error

    image = decode_image(content)
    if image is None:
        raise UserError(
            f"{where} cannot be read as an image ({len(content)} bytes); "
            "tools/check_data.py lists all such files"
        )
    return image


def decode_image(content: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of the bytes of a JPEG, PNG ... file; None if they are not."""
    if not content:
        return None
    buffer = np.frombuffer(content, dtype=np.uint8)
    if RGB_FLAGS is not None:
        return cv2.imdecode(buffer, RGB_FLAGS)
    image = cv2.imdecode(buffer, BGR_FLAGS)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
