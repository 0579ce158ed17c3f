"""Atomic writes: the old file or the new one, nothing else in the folder, also after a failure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from duopose.files import temporary_path, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_bytes_and_chunks_replace_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"old")
    write_atomically(path, iter([b"a", b"bc"]))
    assert path.read_bytes() == b"abc" and names(path.parent) == ["file"]


def test_the_old_file_is_kept_as_previous(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"1", b"2", b"3"):
        write_atomically(path, content, previous=tmp_path / "file.previous")
    assert names(tmp_path) == ["file", "file.previous"]
    assert path.read_bytes() == b"3" and (tmp_path / "file.previous").read_bytes() == b"2"


def test_planted_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    for link in (path, temporary_path(path)):
        link.symlink_to(canary)

    write_atomically(path, b"new")
    assert canary.read_bytes() == b"alive"
    assert not path.is_symlink() and path.read_bytes() == b"new"
    assert names(folder) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_an_error_of_the_content_leaves_the_old_file_alone(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError

    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(ValueError):
        write_atomically(path, broken())
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """`--out /dev/null` as root would make a file of it."""
    path = tmp_path / "out"
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(OSError, match="device"):
        write_atomically(path, b"content")
    assert [one.name for one in tmp_path.iterdir()] == ["out"] and not path.is_file()
