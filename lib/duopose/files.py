"""Reading and writing json files whole or not at all, with sentences for what can go wrong."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from duopose.errors import UserError


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Building hundreds of thousands of small lists sets off the collector again and again; twice as fast without."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def write_atomically(path: str | Path, parts: bytes | Iterable[bytes]) -> None:
    """Writes beside `path` and renames, so that a reader sees the old file or the new one, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.writelines([parts] if isinstance(parts, bytes) else parts)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def read_json(path: str | Path, what: str) -> Any:
    """The content of a json file; `what` says in errors (UserError) what the file was expected to be."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{what} '{path}' is a folder; give the file in it")
    if not path.is_file():
        raise UserError(f"{what} '{path}' does not exist (looked in {path.absolute().parent})")
    try:
        with paused_garbage_collection():
            return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(
            f"{what} '{path}' is not valid json: {error} (NaN and infinity are not allowed in json)"
        ) from error
