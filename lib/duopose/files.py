"""Writing files atomically, checksums of files, and a pause of the garbage collection."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(
    path: str | Path,
    content: bytes | memoryview | Iterable[bytes],
    previous: Path | None = None,
) -> None:
    """Write a file so that a reader sees the old file or the whole new one, also after a crash.

    The content goes to a temporary file in the same folder, is synced to the disk, and replaces
    `path` by a rename. If that fails, the temporary file is removed and `path` is unchanged.
    `previous`: keep the old file under this name. Missing folders are made. Raises OSError, also
    where the path is that of a device, a FIFO or a socket: /dev/null must not become a file.
    """
    path = Path(path)
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    chunks = [content] if isinstance(content, bytes | memoryview) else content

    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed, or a link to elsewhere
        with temporary.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.is_file():
            keep_previous(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename is None:  # as of a full disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)

    _sync_folder(path.parent)


def _check_replaceable(path: Path) -> None:
    """OSError where a device, a FIFO or a socket has the name, or is what a link leads to."""
    try:
        mode = path.stat().st_mode
    except OSError:  # missing, or a link to nothing
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EEXIST, "is a device, a FIFO or a socket", str(path))


def sha256_of_file(path: str | Path) -> str:
    """The checksum of a file's content, as sha256sum prints it. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_path(path: Path) -> Path:
    """Where this process writes the new content of `path` before the rename."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def keep_previous(path: Path, previous: Path) -> None:
    """Give the file a second name, replacing what had it; `path` stays where links are possible."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
        os.replace(link, previous)
    except OSError:  # a file system without hard links
        os.replace(path, previous)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Without the collector, which runs again and again while many small lists are built.

    Reading a large json file takes half the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
