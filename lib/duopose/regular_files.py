"""Opening files of others: regular files alone, with a limit of bytes, and inside their folder.

A FIFO would block for ever, /dev/zero never ends, and a name such as ../../secret or a link leads
out of the folder of a data set. Everything here raises OSError, whose `strerror` says why.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer is opened at once, then refused
_FLAGS |= getattr(os, "O_NOCTTY", 0)
_READ = os.O_RDONLY | _FLAGS
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | Path, max_bytes: int | None = None) -> BinaryIO:
    """The regular file, opened for reading; links are followed.

    OSError where it is a FIFO, a device, a socket or a folder, larger than `max_bytes`, or where
    the system does not open it.
    """
    descriptor = _open_regular(os.fspath(path), _READ, max_bytes)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`; OSError as in `open_regular`."""
    return _read_all(_open_regular(os.fspath(path), _READ, max_bytes), os.fspath(path), max_bytes)


class FolderReader:
    """The files of one folder by their relative names; nothing outside the folder is opened.

    The folder itself may be a link, which the user has named. Links below it may lead to other
    places in the folder and in `linked_root`, and anywhere with `follow_links`. Can be used by
    several threads and sent to other processes.
    """

    def __init__(
        self, root: str | Path, linked_root: str | Path | None = None, follow_links: bool = False
    ) -> None:
        self.root = Path(root)
        self.linked_root = Path(root if linked_root is None else linked_root)
        self.follow_links = follow_links
        self._real_parents: dict[str, str] = {}  # folder as in the names -> real path

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file; OSError as in `open`."""
        descriptor = self._open(name, max_bytes)
        return _read_all(descriptor, name, max_bytes)

    def open(self, name: str, max_bytes: int | None = None) -> BinaryIO:
        """The file, opened for reading.

        OSError as in `open_regular`, and where the name, with all links resolved, leads out of
        the folder.
        """
        return os.fdopen(self._open(name, max_bytes), "rb")

    def is_file(self, name: str) -> bool:
        """Whether `open` would find a regular file inside the folder; the file is not opened."""
        try:
            return stat.S_ISREG(os.stat(self._real_path(name)).st_mode)
        except OSError:
            return False

    def _open(self, name: str, max_bytes: int | None) -> int:
        parent, last = os.path.split(name)
        real_parent = self._real_parents.get(parent)
        if real_parent is None:
            real_parent = self._real_path(parent)
            self._real_parents[parent] = real_parent

        path = f"{real_parent}{os.sep}{last}"
        try:
            return _open_regular(path, _READ | _NO_LINK, max_bytes)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):  # a link, on Linux and on BSD
                raise
        return _open_regular(self._real_path(name), _READ | _NO_LINK, max_bytes)

    def _real_path(self, name: str) -> str:
        """The path without links; OSError where it does not exist or lies outside the folder."""
        root = os.path.realpath(self.root, strict=True)
        named = os.path.normpath(os.path.join(root, name))
        try:
            path = os.path.realpath(os.path.join(root, name), strict=True)
            linked_root = os.path.realpath(self.linked_root, strict=True)
        except ValueError as error:  # a zero byte, or half of a surrogate pair
            raise OSError(errno.EINVAL, "is no file name", name) from error

        is_inside = _lies_in(path, root) or _lies_in(path, linked_root) or self.follow_links
        if not _lies_in(named, root) or not is_inside:
            reason = f"leads out of the folder {self.root}"
            raise OSError(errno.EPERM, reason, name)
        return path

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_real_parents": {}}


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_outside_name(name: str) -> bool:
    """Whether a name, as text, may lead out of a folder: absolute, or with `..` in it."""
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":" or "\0" in name


def open_own(path: Path) -> BinaryIO:
    """A file that a run has written, opened for reading.

    OSError where the path is a link, which somebody else may have put there to lead elsewhere, a
    FIFO, a device, a socket or a folder.
    """
    return os.fdopen(_open_own(path, os.O_RDONLY), "rb")


def open_to_append(path: Path) -> int:
    """A descriptor to append to a file, which is made where it is missing.

    OSError where the path is a link, which somebody else may have put there to lead elsewhere, a
    FIFO, a device, a socket or a folder.
    """
    return _open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def open_to_change(path: Path, create: bool = False) -> int:
    """A descriptor to read and write a file; OSError as above.

    create: make it where it is missing.
    """
    return _open_own(path, os.O_RDWR | (os.O_CREAT if create else 0))


def _open_own(path: Path, flags: int) -> int:
    """A file in a folder of ours, in whose place somebody may have put something else."""
    flags |= _NO_LINK | _FLAGS
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(errno.EPERM, "is a link, remove it", str(path)) from error
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, a socket
            raise OSError(errno.EPERM, "is a FIFO or a socket, remove it", str(path)) from error
        raise

    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(errno.EPERM, f"is {_KINDS.get(kind, 'no file')}, remove it", str(path))
    return descriptor


def reason_of(error: BaseException) -> str:
    """Why a file could not be opened, in lower case: 'no such file or directory'."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = text or type(error).__name__
    return text[:1].lower() + text[1:]


def _open_regular(path: str, flags: int, max_bytes: int | None) -> int:
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise OSError(errno.EINVAL, "is no file name", repr(path)) from error

    try:
        status = os.fstat(descriptor)
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, f"is {_KINDS.get(kind, 'no file')}", path)
        if max_bytes is not None and status.st_size > max_bytes:
            raise _too_large(path, status.st_size, max_bytes)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read_all(descriptor: int, path: str, max_bytes: int) -> bytes:
    """The content, and close; also of files whose size is not known before, as those of /proc."""
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        content = file.read(size) if size else file.read(max_bytes + 1)
        parts = [content or b""]
        while parts[-1] and sum(map(len, parts)) < size:  # a read may give less than asked for
            parts.append(file.read(size) or b"")

    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(whole) > max_bytes:
        raise _too_large(path, len(whole), max_bytes)
    return whole


def _too_large(path: str, size: int, max_bytes: int) -> OSError:
    megabytes = max_bytes / 2**20
    return OSError(errno.EFBIG, f"has {size} bytes, the limit is {megabytes:g} MB", path)
