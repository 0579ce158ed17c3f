"""What the user names as SOURCE, as a list of images and videos.

A source is an image, a video, a folder (with its sub-folders), a zip of images, a glob, the index
of a camera, or the url of a stream. Images are opened one at a time, when they are needed.
"""

from __future__ import annotations

import glob
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np
from PIL import Image

from duopose.errors import UserError

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
STREAM_SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp"))

# Pixels of an image: 170 million are 510 MB, and as much again for the drawn copy. PIL, which reads
# the headers, refuses 179 million.
MAX_PIXELS = 170_000_000
# Long side over short side. The network's input has the same shape, with a short side of
# DATASET.INPUT_SIZE, so that memory and time grow with this ratio, however small the image is.
MAX_ASPECT = 12
MAX_FILE_BYTES = 1 << 30  # of a member of a zip, unpacked
MAX_EXIF_BYTES = 1 << 16  # a segment of a JPEG file has at most so many

# As the photographer saw it: the orientation in the EXIF data is applied.
RGB_FLAGS = cv2.IMREAD_COLOR_RGB if hasattr(cv2, "IMREAD_COLOR_RGB") else None


@dataclass(frozen=True)
class ImageItem:
    """An image that has not been opened yet."""

    name: str  # as written into the results
    read_bytes: Callable[[], bytes]

    def read(self) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB, upright; UserError where it cannot be used."""
        try:
            content = self.read_bytes()
        except (OSError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot be opened ({_reason(error)})") from error
        return decode_upright(content)


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
    if path.is_dir():
        return _folder_items(path)
    if path.exists():
        return _zip_items(path) if path.suffix.lower() == ".zip" else [_file_item(path)]
    if source.isdecimal():
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
        return VideoItem(str(path), str(path), is_live=False)
    return ImageItem(str(path), path.read_bytes)


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
    return [_file_item(path) for path in sorted(chosen, key=lambda path: natural_key(str(path)))]


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
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' cannot be opened as a zip ({_reason(error)})") from error

    members = [info for info in archive.infolist() if _is_image_member(info)]
    if not members:
        raise UserError(f"zip '{path}' holds no images; {_accepted()}")
    members.sort(key=lambda info: natural_key(info.filename))
    return [ImageItem(f"{path}/{info.filename}", _member_reader(archive, info)) for info in members]


def _is_image_member(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    is_hidden = any(part.startswith(".") and part != ".." for part in parts)
    is_image = PurePosixPath(info.filename).suffix.lower() in IMAGE_SUFFIXES
    return is_image and not info.is_dir() and not is_hidden and "__MACOSX" not in parts


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        if info.file_size > MAX_FILE_BYTES:
            raise OSError(f"{info.file_size} bytes when unpacked; at most {MAX_FILE_BYTES}")
        return archive.read(info)

    return read


def decode_upright(content: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the bytes of an image file, turned as its EXIF data says.

    UserError where they are no image, or the image is too large or too long.
    """
    if not content:
        raise UserError("is empty (0 bytes)")
    if _is_truncated_jpeg(content):
        raise UserError(f"is truncated: a JPEG file without an end ({len(content)} bytes)")
    check_size(*_size_in_header(content))

    buffer = np.frombuffer(content, dtype=np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR if RGB_FLAGS is None else RGB_FLAGS)
    except cv2.error as error:
        raise UserError(f"cannot be read as an image ({error.err})") from error
    if image is None:
        raise UserError(f"cannot be read as an image ({len(content)} bytes)")

    check_size(image.shape[1], image.shape[0])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if RGB_FLAGS is None else image


def check_size(width: int, height: int) -> None:
    """UserError where an image would need memory without bound."""
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{width} x {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(
            f"has {width} x {height} pixels; the long side may be {MAX_ASPECT} times the short "
            "one at most: cut it into parts"
        )


def _too_many_pixels(size: str) -> UserError:
    return UserError(
        f"has {size} pixels; at most {MAX_PIXELS // 1_000_000} million are accepted: "
        "make it smaller, or cut it into parts"
    )


def _is_truncated_jpeg(content: bytes) -> bool:
    """OpenCV would fill the missing part of the image with grey.

    A thumbnail in the EXIF data, within the first MAX_EXIF_BYTES, has an end marker of its own.
    """
    if not content.startswith(b"\xff\xd8"):
        return False
    end = content.rfind(b"\xff\xd9")
    return end < 0 or (end < MAX_EXIF_BYTES and len(content) > 2 * MAX_EXIF_BYTES)


def _size_in_header(content: bytes) -> tuple[int, int]:
    """Width and height without decoding; 1 x 1 where the header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as header:
                return header.size
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("too many") from error
    except (OSError, ValueError, SyntaxError):
        return 1, 1


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts]


def safe_stem(name: str) -> str:
    """The last part of a name without its suffix, of letters, digits, - and _ alone."""
    last_part = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    stem = last_part.rsplit(".", 1)[0] if "." in last_part[1:] else last_part
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")
    return cleaned[:60] or "image"


def _has_known_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _accepted() -> str:
    known = [*sorted(IMAGE_SUFFIXES), *sorted(VIDEO_SUFFIXES)]
    return f"accepted are {' '.join(known)}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__).lower()
