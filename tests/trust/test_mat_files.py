"""Hostile and damaged .mat files: one sentence, from a process with limits of memory and time."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import scipy.io
import scipy.sparse
from tests.datasets.mpii_mat import cells, image, person, write_groups, write_mat

from duopose import mat_files
from duopose.datasets.prepare.mpii_mat import read_groups, read_release
from duopose.errors import UserError
from duopose.limited_process import ProcessLimits, run_limited
from duopose.mat_files import mat_as_json, read_mat

PROJECT = Path(__file__).resolve().parents[2]
MATRIX = 14
COMPRESSED = 15
NUM_DAMAGED = 200


def header(byte_order: bytes = b"IM") -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + byte_order


def matrix_that_promises(rows: int, columns: int) -> bytes:
    """RELEASE, a matrix of float64 whose data are missing."""
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    size = struct.pack("<IIii", 5, 8, rows, columns)
    name = struct.pack("<II", 1, 7) + b"RELEASE\0"
    data = struct.pack("<II", 9, abs(8 * rows * columns) % (2**32 - 8))
    body = flags + size + name + data
    return struct.pack("<II", MATRIX, len(body)) + body


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    return struct.pack("<II", COMPRESSED, len(packed)) + packed


def compressed_ones(megabytes: int) -> bytes:
    """RELEASE, a complete matrix of uint8 that is small in the file."""
    number = megabytes * 2**20
    flags = struct.pack("<IIII", 6, 8, 9, 0)
    size = struct.pack("<IIii", 5, 8, 1, number)
    name = struct.pack("<II", 1, 7) + b"RELEASE\0"
    body = flags + size + name + struct.pack("<II", 2, number) + b"\1" * number
    return compressed(struct.pack("<II", MATRIX, len(body)) + body)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "text": lambda good: b"hello" * 100,
    "header_alone": lambda good: good[:128],
    "cut_in_the_middle": lambda good: good[: len(good) // 2],
    "last_bytes_missing": lambda good: good[:-9],
    "zeros_in_the_middle": lambda good: good[:400] + bytes(400) + good[800:],
    "ones_in_the_middle": lambda good: good[:400] + b"\xff" * 400 + good[800:],
    "promises_9_GB": lambda good: header() + matrix_that_promises(33_000, 34_000),
    "promises_9_GB_compressed": lambda good: (
        header() + compressed(matrix_that_promises(33_000, 34_000))
    ),
    "negative_sizes": lambda good: header() + matrix_that_promises(-5, 7),
    "fills_the_memory": lambda good: header() + compressed_ones(200),
    "version_7_3": lambda good: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
    "another_byte_order": lambda good: header(b"XX") + good[128:],
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_mat(tmp_path / "release.mat", [image("a.jpg", person(3.0))] * 2, [1, 0])


def run_case(monkeypatch: pytest.MonkeyPatch, limits: ProcessLimits, *words: str) -> bytes:
    """Output of mat_cases.py in a process with limits."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return run_limited("tests.trust.mat_cases", words, "'x.mat'", limits)


def test_damaged_files(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    content = good.read_bytes()
    for name, damage in DAMAGED.items():
        (folder / f"{name}.mat").write_bytes(damage(content))

    text = run_case(monkeypatch, ProcessLimits(2**27, 60), "read", str(folder))
    outcomes = orjson.loads(text)
    assert len(outcomes) == len(DAMAGED)
    for name, outcome in outcomes.items():
        assert isinstance(outcome, str) and f"{folder / name}'" in outcome


def test_flipped_bytes_are_read_or_refused_or_end_the_process_alone(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "flipped"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(NUM_DAMAGED):
        content = bytearray(good.read_bytes())
        for position in rng.integers(0, len(content), size=1 + index % 4):
            content[position] = int(rng.integers(0, 256))
        (folder / f"{index}.mat").write_bytes(content)

    text = run_case(monkeypatch, ProcessLimits(2**30, 60), "read", str(folder))
    outcomes = list(orjson.loads(text).values())
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(outcomes) == NUM_DAMAGED and 0 < len(refused) < NUM_DAMAGED
    # A signal becomes a message: test_a_reader_that_fills_hangs_or_dies
    ends = {outcome for outcome in outcomes if isinstance(outcome, int)}
    assert all(-end in signal.valid_signals() for end in ends)


@pytest.mark.parametrize(
    "what, limits, word",
    [
        ("fill", ProcessLimits(2**28, 60), "MemoryError"),
        ("spin", ProcessLimits(2**28, 1), "1 seconds"),
        ("sleep", ProcessLimits(2**28, 0.2), "seconds"),
        ("kill", ProcessLimits(2**28, 60), "signal 9"),
    ],
)
def test_a_reader_that_fills_hangs_or_dies(
    monkeypatch: pytest.MonkeyPatch, what: str, limits: ProcessLimits, word: str
) -> None:
    with pytest.raises(UserError, match=rf"^'x\.mat' .*{word}"):
        run_case(monkeypatch, limits, what)


def test_a_file_that_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.mat"
    path.write_bytes(header() + compressed_ones(200))
    assert path.stat().st_size < 2**19
    monkeypatch.setattr(mat_files, "MAX_READER_MEMORY", 2**27)
    with pytest.raises(UserError, match=r"bomb\.mat.*GB"):
        read_release(path)


def test_modules_of_the_current_folder_are_not_imported(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "scipy", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile code ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    assert read_mat(good.name, "RELEASE")[0]["version"] == "12"


def test_torch_is_not_imported() -> None:
    """Its import takes seconds and gigabytes of addresses."""
    code = "import duopose.mat_files, scipy.io, sys; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout.split() == [b"False"]


# ---- values ----


def value_of(path: Path, value: Any) -> Any:
    """A value through a file, without a process."""
    scipy.io.savemat(path, {"x": value})
    return orjson.loads(mat_as_json(str(path), "x"))


def test_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    assert value_of(path, 5.5) == 5.5 and value_of(path, "text") == "text"
    assert value_of(path, np.zeros((0, 0))) is None and value_of(path, np.nan) is None
    assert value_of(path, np.array([[1, 2], [3, 4]])) == [1, 2, 3, 4]
    assert value_of(path, np.array([1.0, np.inf, -np.inf, np.nan])) == [1, "inf", "-inf", None]
    assert value_of(path, {"a": 1, "b": {"c": "d"}}) == [{"a": 1, "b": [{"c": "d"}]}]
    assert value_of(path, cells([np.array([[1], [3]]), np.zeros((1, 0))])) == [[1, 3], None]


def test_values_that_are_not_read(tmp_path: Path) -> None:
    nested: Any = 1
    for _ in range(40):
        nested = {"a": nested}
    path = tmp_path / "x.mat"
    for value in (1 + 2j, scipy.sparse.eye(3).tocsc(), {"a": np.complex64(1j)}, nested):
        with pytest.raises(UserError, match=re.escape(str(path))):
            value_of(path, value)


# ---- MPII ----


def released(**fields: Any) -> dict[str, Any]:
    return {"annolist": np.zeros((0, 0)), "img_train": np.zeros((0, 0)), **fields}


@pytest.fixture
def without_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers of MPII's files read in this process, which is faster."""

    def read(path: str | Path, variable: str) -> Any:
        return orjson.loads(mat_as_json(str(path), variable))

    monkeypatch.setattr("duopose.datasets.prepare.mpii_mat.read_mat", read)


@pytest.mark.usefixtures("without_process")
def test_other_variables_in_the_place_of_those_of_mpii(tmp_path: Path) -> None:
    path = tmp_path / "release.mat"
    for content in (
        {"RELEASE": 5},
        {"RELEASE": "text"},
        {"other": 5},
        {"RELEASE": {"annolist": 5}},
        {"RELEASE": released(img_train=np.ones((1, 3)))},
        {"RELEASE": released(annolist={"image": 5}, img_train=1)},
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(UserError, match=re.escape(str(path))):
            read_release(path)

    for groups in ("text", cells(["a", "b"]), cells([cells(["a"]), {"a": 1}])):
        scipy.io.savemat(path, {"groups": groups})
        with pytest.raises(UserError, match=re.escape(str(path))):
            read_groups(path, 2)


@pytest.mark.usefixtures("without_process")
def test_values_of_other_types_name_the_image(tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    for wrong in (
        person(3.0, scale="large"),
        person(3.0, x1="a"),
        person(np.inf),
        person(1e9),
        person(3.0, objpos={"x": "a", "y": 1.0}),
        person(3.0, scale={"a": 1}),
    ):
        write_mat(path, [image("a.jpg", person(1.0)), image("b.jpg", wrong)], [1, 1])
        with pytest.raises(UserError, match=r"annolist\(2\)"):
            read_release(path)

    for name in ("x" * 5000, 5):
        write_mat(path, [image(name, person(1.0))], [1])  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"annolist\(1\)"):
            read_release(path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mat")
    (tmp_path / "folder.mat").mkdir()
    (tmp_path / "loop.mat").symlink_to("loop.mat")
    with (tmp_path / "large.mat").open("wb") as file:
        file.truncate(9 * 2**30)

    for name in ("pipe.mat", "folder.mat", "loop.mat", "large.mat", "none.mat", "a\0.mat"):
        with pytest.raises(UserError):
            read_release(tmp_path / name)
    with pytest.raises(UserError, match="zero"):
        read_release("/dev/zero")


def test_good_files(tmp_path: Path, good: Path) -> None:
    images = read_release(good)
    assert [one.name for one in images] == ["a.jpg", "a.jpg"] and images[0].train
    assert images[0].people[0].joints[1] == (3.0, 1.0, 2) and images[0].video == 7
    groups = read_groups(write_groups(tmp_path / "groups.mat", [[[0, 1]], []]), 2)
    assert groups == [[[0, 1]], []]
