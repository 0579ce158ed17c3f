"""What the user names as SOURCE, as a list of images and videos.

A source is an image, a video, a folder (with its sub-folders), a zip of images, a glob, the index
of a camera, or the url of a stream. Images are opened one at a time, when they are needed.
"""

from __future__ import annotations

import glob
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from duopose.datasets.split_files import open_zip
from duopose.errors import UserError
from duopose.image_files import ImageLimits, check_aspect, decode_image, read_header
from duopose.regular_files import FolderReader, read_regular, reason_of
from duopose.zip_members import ZipMemberError, read_member

# LIMITS.ASPECT by default. The network's input has the shape of the image, with a short side of
# DATASET.INPUT_SIZE, so that memory and time grow with this ratio, however small the image is.
MAX_ASPECT = 12.0

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
))
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
))
# fmt: on
MAX_CAMERA_DIGITS = 4  # of the index of a camera
STREAM_SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp"))


@dataclass(frozen=True)
class ImageItem:
    """An image that has not been opened yet."""

    name: str  # as written into the results
    read_bytes: Callable[[int], bytes]  # of at most so many bytes

    def read(self, limits: ImageLimits | None = None, max_aspect: float = MAX_ASPECT) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB, turned as its EXIF data says: as the photographer saw it.

        UserError where it cannot be used.
        """
        limits = limits or ImageLimits()
        try:
            content = self.read_bytes(limits.max_bytes)
        except OSError as error:
            raise UserError(f"cannot be opened ({reason_of(error)})") from error
        except ZipMemberError as error:
            raise UserError(str(error)) from error

        header = read_header(content)
        check_aspect(header.width, header.height, max_aspect)
        return decode_image(content, limits, upright=True)


@dataclass(frozen=True)
class VideoItem:
    """A video file, a camera or a stream."""

    name: str  # as written into the results, without a password
    address: str | int  # path, url, or index of a camera
    is_live: bool  # a camera or a stream: endless, and its frames come at a rate of their own


Item = ImageItem | VideoItem


def find_items(sources: Sequence[str]) -> list[Item]:
    """The images and videos of all sources, in their order; UserError where one has none."""
    return [item for source in sources for item in _items_of(source)]


def _items_of(source: str) -> list[Item]:
    path = Path(source)
    if "\0" in source:
        raise UserError(f"source {source!r} is no file name")
    if path.is_dir():
        return _folder_items(path)
    if path.is_file():
        return _zip_items(path) if path.suffix.lower() == ".zip" else [_file_item(path)]
    if path.exists():
        raise UserError(f"source '{source}' is neither a file nor a folder; give one of them")
    if source.isdecimal() and len(source) <= MAX_CAMERA_DIGITS:
        return [VideoItem(f"camera {int(source)}", int(source), is_live=True)]
    if urlsplit(source).scheme.lower() in STREAM_SCHEMES:
        return [VideoItem(_without_password(source), source, is_live=True)]
    if glob.has_magic(source):
        return _glob_items(source)
    raise UserError(
        f"source '{source}' does not exist (looked in {Path.cwd()}); give an image, a video, a "
        "folder, a zip of images, a glob in quotes, the index of a camera, or an rtsp:// url"
    )


def _file_item(path: Path) -> Item:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoItem(_readable(path), str(path), is_live=False)
    return ImageItem(_readable(path), partial(read_regular, path))


def _item_in_folder(path: Path, reader: FolderReader) -> Item:
    """A file below a folder that the user has named; links out of the folder are not followed."""
    name = str(path.relative_to(reader.root))
    if path.suffix.lower() in VIDEO_SUFFIXES and reader.is_file(name):
        return VideoItem(_readable(path), str(path), is_live=False)
    return ImageItem(_readable(path), partial(reader.read, name))


def _readable(path: Path) -> str:
    """The path as a text that json can hold, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def _folder_items(folder: Path) -> list[Item]:
    """Images and videos below a folder, in the order of names; hidden ones are left out."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent) / name for name in files if not name.startswith(".")]

    chosen = [path for path in paths if _has_known_suffix(path.name)]
    if not chosen:
        what = f"{len(paths)} other files" if paths else "no files at all"
        raise UserError(f"folder '{folder}' holds no image or video ({what}); {_accepted()}")
    chosen.sort(key=lambda path: natural_key(str(path)))
    reader = FolderReader(folder)
    return [_item_in_folder(path, reader) for path in chosen]


def _glob_items(pattern: str) -> list[Item]:
    paths = [Path(name) for name in glob.glob(pattern, recursive=True)]
    files = [path for path in paths if path.is_file() and _has_known_suffix(path.name)]
    if not files:
        found = f"; it matches {len(paths)} other files or folders" if paths else ""
        raise UserError(
            f"the glob '{pattern}' matches no image or video{found} (looked in {Path.cwd()})"
        )
    return [_file_item(path) for path in sorted(files, key=lambda path: natural_key(str(path)))]


def _zip_items(path: Path) -> list[Item]:
    """The images in a zip. They are read in memory, so that no name in it can leave a folder."""
    archive = open_zip(path)
    members = [info for info in archive.infolist() if _is_image_member(info)]
    if not members:
        raise UserError(f"zip '{path}' holds no images; {_accepted()}")
    members.sort(key=lambda info: natural_key(info.filename))
    return [
        ImageItem(f"{path}/{info.filename}", partial(read_member, archive, info))
        for info in members
    ]


def _is_image_member(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    is_hidden = any(part.startswith(".") and part != ".." for part in parts)
    is_image = PurePosixPath(info.filename).suffix.lower() in IMAGE_SUFFIXES
    return is_image and not info.is_dir() and not is_hidden and "__MACOSX" not in parts


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    # A number as its length and its digits: int() refuses thousands of them.
    parts = re.split(r"0*([0-9]+)", name)
    return [(len(part), part) if part.isdecimal() else (-1, part.lower()) for part in parts]


def _has_known_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _accepted() -> str:
    known = [*sorted(IMAGE_SUFFIXES), *sorted(VIDEO_SUFFIXES)]
    return f"accepted are {' '.join(known)}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
