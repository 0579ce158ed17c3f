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

import numpy as np

from duopose.errors import BadSample, UserError
from duopose.image_files import ImageLimits, decode_image
from duopose.regular_files import FolderReader, open_regular, reason_of
from duopose.zip_members import ZipMemberError, read_member

# Patterns of COCO's own layout, which other benchmarks accept, too.
COCO_ANNOTATIONS = (
    "annotations/person_keypoints_{split}.json",
    "annotations/image_info_{split}.json",
)
COCO_IMAGES = ("images/{images}", "{images}")

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
    root: Path,
    layout: Layout,
    split: str,
    data_format: str,
    given: str = "",
    limits: ImageLimits | None = None,
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
            return ZipImages(path, limits)
        if not is_zip and path.is_dir():
            return FolderImages(path, limits, root if path.is_relative_to(root) else None)

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
    limits: ImageLimits

    def read_bytes(self, name: str) -> bytes:
        """The content of a file.

        KeyError or FileNotFoundError where it does not exist, another OSError or ZipMemberError
        where it cannot be read, is no regular file, lies outside, or is too large.
        """
        ...

    def names(self) -> set[str]:
        """The names of the files."""
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that `read_bytes` does not accept, by the list of files."""
        ...


class FolderImages:
    """Images that are regular files below a folder; nothing outside it is opened."""

    def __init__(
        self, path: Path, limits: ImageLimits | None = None, data_root: Path | None = None
    ) -> None:
        """data_root: DATASET.ROOT; links below `path` may lead to other places in it."""
        self.path = path
        self.limits = limits or ImageLimits()
        self._folder = FolderReader(path, data_root, self.limits.outside_links)

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; OSError where it cannot be used."""
        return self._folder.read(name, self.limits.max_bytes)

    def names(self) -> set[str]:
        """Paths relative to the folder, with forward slashes; also of links and FIFOs."""
        return set(self._listed())

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are no regular files inside the folder.

        The folder is listed once; only names that are not regular files in the list are looked up
        one by one: they may lead through links.
        """
        listed = self._listed()
        return [name for name in names if not listed.get(name) and not self._folder.is_file(name)]

    def _listed(self) -> dict[str, bool]:
        """Path relative to the folder -> whether it is a regular file, and no link."""
        found: dict[str, bool] = {}
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with os.scandir(self.path / prefix) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{prefix}{entry.name}/")
                        else:
                            found[prefix + entry.name] = entry.is_file(follow_symlinks=False)
            except OSError:  # a folder without permission: its files are missing
                continue
        return found


class ZipImages:
    """Images inside a zip file. Names may omit the zip's only folder (`train2017/` in COCO's zips).

    Each process opens the file itself, because forked processes would share one file position.
    """

    def __init__(self, path: Path, limits: ImageLimits | None = None) -> None:
        self.path = path
        self.limits = limits or ImageLimits()
        # Process id -> open zip and {name: name inside the zip}.
        self._opened: dict[int, tuple[zipfile.ZipFile, dict[str, str]]] = {}

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; KeyError where it does not exist, ZipMemberError if damaged."""
        archive, full_names = self._open()
        return read_member(archive, full_names[name], self.limits.max_bytes)

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
        archive = open_zip(self.path)
        self._opened = {process_id: (archive, _full_names(archive))}
        return self._opened[process_id]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "limits": self.limits, "_opened": {}}


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip of images; UserError where it cannot be opened as one."""
    try:
        return zipfile.ZipFile(open_regular(path))
    except Exception as error:  # zipfile raises many kinds for a damaged directory
        raise UserError(
            f"{path} cannot be opened as a zip of images: {reason_of(error)}"
        ) from error


def _full_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Name without the zip's only folder -> name inside the zip."""
    files = [name for name in archive.namelist() if not name.endswith("/")]
    top_folders = {name.split("/", 1)[0] for name in files}
    has_one_folder = len(top_folders) == 1 and all("/" in name for name in files)
    prefix_length = len(f"{top_folders.pop()}/") if has_one_folder else 0
    return {name[prefix_length:]: name for name in files}


def read_image(source: ImageSource, name: str, image_id: int | str) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; BadSample naming file and id where it cannot be used."""
    where = f"image {name} (id {image_id}) in {source.path}"
    try:
        content = source.read_bytes(name)
    except (FileNotFoundError, KeyError) as error:
        raise BadSample(f"{where} is missing; tools/check_data.py lists all that are") from error
    except ZipMemberError as error:
        raise BadSample(f"{where} {error}") from error
    except OSError as error:
        reason = reason_of(error)
        raise BadSample(
            f"{where} cannot be read ({reason}); tools/check_data.py lists all such files"
        ) from error

    try:
        return decode_image(content, source.limits)
    except BadSample as error:
        raise BadSample(f"{where} {error}; tools/check_data.py lists all such files") from error
