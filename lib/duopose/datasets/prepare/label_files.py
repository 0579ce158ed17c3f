"""Reading the files of labelling programs and the sizes of their images, with bounds.

A file that the user names may lie anywhere. Files that are found below a folder, and names that
stand in a file, must stay in that folder, also through links.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from duopose.errors import BadSample, UserError
from duopose.image_files import ImageLimits, check_side, read_header
from duopose.json_files import MAX_MEMORY
from duopose.regular_files import FolderReader, read_regular, reason_of

MAX_FILE_BYTES = 512 * 2**20  # of one annotation file; 100,000 people in CVAT's xml have 200 MB
MAX_TABLE_BYTES = 64 * 2**20  # of a csv file, a row of which is in memory
MAX_LABEL_BYTES = 16 * 2**20  # of the labels of one image


@dataclass(frozen=True)
class ReadOptions:
    """What all readers take from the command line."""

    person_label: str = "person"  # of boxes and classes of people
    outside_links: bool = False  # links below a folder may lead out of it
    max_memory: int = MAX_MEMORY  # bytes that a json file may need

    def folder(self, path: Path) -> FolderReader:
        """The files below a folder."""
        return FolderReader(path, follow_links=self.outside_links)


class SourceFiles:
    """The files of a kind below a folder, or the one file that the user names."""

    def __init__(self, source: Path, pattern: str, options: ReadOptions) -> None:
        """pattern: of the names below a folder. UserError where there are none."""
        self.is_folder = source.is_dir()
        self.root = source if self.is_folder else source.parent
        self.names = [source.name]
        if self.is_folder:
            found = source.rglob(pattern)
            self.names = sorted(path.relative_to(source).as_posix() for path in found)
        if not self.names:
            raise UserError(f"'{source}' has no {pattern}; give the file, or their folder")
        self._folder = options.folder(self.root)

    def read(self, name: str, what: str, max_bytes: int) -> bytes:
        """The content of one of `names`; UserError where it cannot be read."""
        if self.is_folder:
            return read_in_folder(self._folder, name, what, max_bytes)
        return read_named(self.root / name, what, max_bytes)


def read_named(path: Path, what: str, max_bytes: int) -> bytes:
    """The content of a file that the user names; UserError where it cannot be read."""
    with _readable(f"{what} '{path}'"):
        return read_regular(path, max_bytes)


def read_in_folder(folder: FolderReader, name: str, what: str, max_bytes: int) -> bytes:
    """The content of a file below a folder; UserError where it cannot be read."""
    with _readable(f"{what} '{folder.root / name}'"):
        return folder.read(name, max_bytes)


def as_text(content: bytes, where: str) -> str:
    """The text in utf-8; UserError beginning with `where`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not a text in utf-8: {error.reason}") from error


def image_size(folder: FolderReader, name: str, where: str) -> tuple[int, int]:
    """Width and height from the header of an image file; UserError with `where`."""
    path = folder.root / name
    try:
        content = folder.read(name, ImageLimits().max_bytes)
        header = read_header(content)
        if min(header.width, header.height) < 1:
            raise BadSample("has no pixels")
        check_side(header.width, header.height)
    except FileNotFoundError as error:
        raise UserError(
            f"{where}: the image '{path}' does not exist; give its folder with --images"
        ) from error
    except OSError as error:
        raise UserError(f"{where}: '{path}' {_reason(error)}") from error
    except BadSample as error:
        raise UserError(f"{where}: '{path}' {error}") from error
    return header.width, header.height


def check_inside(path: Path, root: Path, options: ReadOptions, where: str) -> None:
    """UserError where a folder, with its links resolved, is not below `root`."""
    is_inside = path.resolve().is_relative_to(root.resolve())
    if not is_inside and not options.outside_links:
        raise UserError(f"{where}: '{path}' leads out of the folder '{root}'{_ADVICE}")


_ADVICE = "; name the folder itself, or allow links that lead out with --outside-links"


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Errors of the system as sentences that begin with `where`."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{where} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{where} is a folder; give the file in it") from error
    except OSError as error:
        raise UserError(f"{where} {_reason(error)}") from error


def _reason(error: OSError) -> str:
    is_outside = error.errno == errno.EPERM and "leads out" in reason_of(error)
    return f"cannot be read: {reason_of(error)}{_ADVICE if is_outside else ''}"
