"""MPII's .mat files. scipy reads each in a process with limits, which may end by a signal."""

from __future__ import annotations

import io
import multiprocessing
import zlib
from pathlib import Path
from random import Random
from unittest.mock import patch

import msgspec
import scipy.io
from tests.datasets.mpii_mat import image, person, struct_array, write_mat
from tests.fuzz.byte_changes import changed_bytes
from tests.fuzz.fuzz_target import Target

from duopose.datasets.prepare import mpii_mat
from duopose.datasets.prepare.mpii_mat import read_release
from duopose.errors import UserError
from duopose.limited_process import ProcessLimits
from duopose.mat_files import MAX_READER_MEMORY, SECONDS, mat_as_json

HEADER = 128  # bytes before the first element of a .mat file
TAG = 8  # bytes before the compressed content of an element


def mat_target(folder: Path) -> Target:
    """Changed bytes, also inside the compressed content; then what MPII's reader makes of it."""
    people = struct_array([person(10.0), person(40.0, joints=5)])
    images = [image("a.jpg", people), image("b.jpg", struct_array([person(5.0, joints=2)]))]
    plain = write_mat(folder / "valid.mat", images, [1, 0]).read_bytes()
    content = scipy.io.loadmat(io.BytesIO(plain))
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"RELEASE": content["RELEASE"]}, do_compression=True)
    packed = buffer.getvalue()

    def make(rng: Random) -> bytes:
        if rng.random() < 0.3:
            return with_changed_content(packed, rng)
        return changed_bytes(rng.choice((plain, plain, packed)), rng)

    def use(path: Path) -> None:
        with patch.object(mpii_mat, "read_mat", read_in_child):
            read_release(path)

    return Target("mat", ".mat", plain, make, use)


def with_changed_content(packed: bytes, rng: Random) -> bytes:
    """The compressed element with other bytes in it."""
    content = zlib.decompress(packed[HEADER + TAG :])
    changed = zlib.compress(changed_bytes(content, rng), 1)
    size = len(changed).to_bytes(4, "little")
    return packed[: HEADER + 4] + size + changed


def read_in_child(path: str | Path, variable: str) -> object:
    """As `mat_files.read_mat`, in a forked process: a new one takes a third of a second."""
    answer = Path(path).with_suffix(".answer")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_read, args=(str(path), variable, answer))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise UserError(f"'{path}' cannot be read: its reader ended with {child.exitcode}")
    return msgspec.json.decode(answer.read_bytes())


def _read(path: str, variable: str, answer: Path) -> None:
    """An error other than a UserError has an exit code of 1, as a UserError has here."""
    ProcessLimits(MAX_READER_MEMORY, SECONDS).set()
    answer.write_bytes(mat_as_json(path, variable))
