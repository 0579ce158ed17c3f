"""Checkpoint files: atomic, the previous one kept, damage and a full disk reported."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from duopose.errors import UserError
from duopose.training.checkpoint import (
    checkpoint_exists,
    previous_path,
    read_checkpoint,
    write_checkpoint,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pth"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte; needs root."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_newest_is_read_and_the_one_before_is_kept(path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint({"step": step, "weights": torch.full((3,), float(step))}, path)
    found = read_checkpoint(path)
    assert found.content["step"] == 3 and found.notices == ()
    assert torch.load(previous_path(path), weights_only=True)["step"] == 2
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "checkpoint.pth",
        "checkpoint.pth.previous",
    ]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_falls_back_with_a_notice(path: Path, damage: str) -> None:
    write_checkpoint({"step": 1}, path)
    write_checkpoint({"step": 2, "weights": torch.rand(1000)}, path)
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "cut": data[:middle],
        "flip": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
        "empty": b"",
    }[damage]
    os.unlink(path)
    path.write_bytes(damaged)
    found = read_checkpoint(path)
    assert found.content["step"] == 1 and found.path == previous_path(path)
    assert len(found.notices) == 1 and str(path) in found.notices[0]


def test_no_whole_checkpoint_is_a_user_error(path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint\.pth"):
        read_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"checkpoint\.pth"):
        read_checkpoint(path)


def test_a_newest_that_is_missing_falls_back(path: Path) -> None:
    write_checkpoint({"step": 1}, path)
    path.rename(previous_path(path))
    assert checkpoint_exists(path) and read_checkpoint(path).content["step"] == 1


def test_works_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", fail)
    for step in (1, 2):
        write_checkpoint({"step": step}, path)
    assert read_checkpoint(path).content["step"] == 2
    assert torch.load(previous_path(path), weights_only=True)["step"] == 1


def test_a_full_disk_is_a_user_error_and_leaves_the_last_good_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "checkpoint.pth"
        write_checkpoint({"step": 1, "weights": torch.rand(100_000)}, path)
        with pytest.raises(
            UserError,
            match=r"checkpoint\.pth.*4\.0 MB",
        ):
            write_checkpoint({"step": 2, "weights": torch.rand(1_000_000)}, path)
        assert read_checkpoint(path).content["step"] == 1
        assert [file.name for file in disk.iterdir()] == ["checkpoint.pth"]
