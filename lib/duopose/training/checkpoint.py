"""Checkpoint files that survive a kill, a full disk and a damaged block.

A checkpoint is written aside, synced to the disk and renamed, and the one before is kept beside it as `.previous`; at every
moment at least one whole file is there.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from duopose.errors import UserError
from duopose.files import write_atomically

Content = dict[str, Any]
FORMAT = 1


class Found(NamedTuple):
    """A checkpoint that was read, and what was wrong with newer ones."""

    content: Content
    path: Path
    notices: tuple[str, ...]


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return path.with_name(path.name + ".previous")


def write_checkpoint(content: Content, path: Path) -> None:
    """Replace the newest checkpoint, keeping it as the previous one. UserError where the disk does not take it."""
    buffer = (
        io.BytesIO()
    )  # torch's own file writer reports a full disk less clearly than the system does
    torch.save({"format": FORMAT, **content}, buffer)
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    try:
        write_atomically(path, buffer.getbuffer(), previous=previous(path))
    except OSError as error:
        raise UserError(_cannot_write(path, len(buffer.getbuffer()), error)) from error


def read_checkpoint(path: Path) -> Found:
    """The newest whole checkpoint: `path`, or, where that is damaged or missing, the previous one, saying so."""
    notices: list[str] = []
    for candidate in (path, previous(path)):
        if not candidate.is_file():
            continue
        try:
            return Found(_read(candidate), candidate, tuple(notices))
        except Exception as error:  # whatever a damaged file makes of the reader
            reason = (str(error).splitlines() or [""])[0][:200]
            notices.append(
                f"checkpoint {candidate} is damaged and is not used ({type(error).__name__}: {reason})"
            )
    raise UserError(
        "; ".join(notices)
        or f"there is no checkpoint {path}; a run writes one at the end of each epoch"
    )


def exists(path: Path) -> bool:
    """Whether there is a checkpoint, whole or not, or the one before it."""
    return path.is_file() or previous(path).is_file()


def _read(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # torch.load does not compare checksums
    if damaged:
        raise ValueError(f"checksum of {damaged} is wrong")
    content: Content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"it is no checkpoint of this version of Duopose (format {content.get('format')}, not {FORMAT})"
        )
    return content


def _cannot_write(path: Path, size: int, error: OSError) -> str:
    good = next((str(candidate) for candidate in (path, previous(path)) if candidate.is_file()), "")
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free"
    except OSError:
        free = ""
    kept = (
        f"the last good checkpoint is whole: {good}" if good else "there is no earlier checkpoint"
    )
    return (
        f"the checkpoint {path} could not be written: {error.strerror} (it needs {size / 1e6:.1f} MB{free}); {kept}. "
        "Make room and go on with AUTO_RESUME True"
    )
