"""Reading json files of others: a bound on memory and depth, types checked while decoding.

msgspec decodes and checks COCO's training annotations in 0.6 of the time and half of the memory
that orjson needs to decode them. NaN, infinity, half of a surrogate pair, and numbers beyond
float64 are no json, so that no reader gets them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from duopose.errors import UserError
from duopose.files import paused_garbage_collection

# Estimated memory of a file when decoded; setting LIMITS.JSON_GB. COCO's train2017 needs 1.5 GB.
MAX_MEMORY = int(1.6 * 2**30)
# Bytes of a decoded value: of CPython's objects with their place in a list. Measured as well.
BYTES_PER_MAPPING = 260
BYTES_PER_LIST = 72
BYTES_PER_VALUE = 34
COUNTED_FROM = 8 * 2**20  # smaller files need less than half a GB, whatever they hold
CHUNK = 2**18  # bytes that are counted together, small enough for the processor's cache

RAISE_LIMIT = "; if the file is right, raise LIMITS.JSON_GB (or --json-gb, where the tool has it)"

# Of lists and mappings in each other; our own files have at most 6. msgspec needs twice the time to
# prepare each further level, at the start of every tool: 10 ms for 10, 1 s for 16.
MAX_DEPTH = 10
SHOWN_CHARACTERS = 60  # of a value in a message

_SCALAR = int | float | str | bool | None


def json_values(depth: int) -> Any:
    """The type of any json value with at most `depth` lists and mappings in each other."""
    values: Any = _SCALAR
    for _ in range(depth):
        values = _SCALAR | list[values] | dict[str, values]
    return values


_ANY_VALUE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(json_values(MAX_DEPTH))

_TYPE_WORDS = {
    "array": "a list",
    "object": "a mapping",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_SCALAR_KINDS = "bool | int | float | str | null"  # a list was found where none is accepted
_PLACE = re.compile(r" - at `(?:key in )?\$(.*)`$")
_EXPECTED = re.compile(r"^Expected `([^`]*)`(.*)$")
_GOT = re.compile(r"got `(\w+)`")
_RECORD = re.compile(r"^(?:\.(\w+))?\[(\d+)\](.*)$")


def read_json(path: str | Path, what: str, max_memory: int = MAX_MEMORY) -> Any:
    """The content of a json file, of any structure.

    UserError names the file and `what` it was expected to be: where it is missing, no json, deeper
    than MAX_DEPTH, or would need more than `max_memory` bytes.
    """
    return read_typed_json(path, what, _ANY_VALUE, max_memory)


def read_typed_json(
    path: str | Path,
    what: str,
    decoder: msgspec.json.Decoder[Any],
    max_memory: int = MAX_MEMORY,
    format_name: str = "",
) -> Any:
    """The content of a json file in the decoder's type; UserError as of `read_json`.

    Where a value has another type, the error names its place, and the id of the record it is in.
    format_name: of what the file should be, for the error.
    """
    content = read_text_file(path, what, max_memory)
    check_memory(content, f"{what} '{path}'", max_memory)
    return decode_json(content, f"{what} '{path}'", decoder, format_name)


def read_text_file(path: str | Path, what: str, max_bytes: int, advice: str = RAISE_LIMIT) -> bytes:
    """The content of a file; UserError where it is missing, no regular file, or too large.

    advice: the end of the message about its size.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{what} '{path}' is a folder; give the file in it")
        if not path.exists():
            raise UserError(f"{what} '{path}' does not exist (looked in {path.absolute().parent})")
        if not path.is_file():
            raise UserError(f"{what} '{path}' is a device or a pipe, not a file on a disk")
        size = path.stat().st_size
        if size > max_bytes:
            raise UserError(
                f"{what} '{path}' has {size} bytes, the limit is {max_bytes / 2**20:.4g} MB{advice}"
            )
        with path.open("rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{what} '{path}' cannot be read: {reason}") from error


def decode_json(
    content: bytes,
    where: str,
    decoder: msgspec.json.Decoder[Any] = _ANY_VALUE,
    format_name: str = "",
) -> Any:
    """Json text in the decoder's type; UserError beginning with `where`."""
    try:
        with paused_garbage_collection():
            return decoder.decode(content)
    except msgspec.ValidationError as error:
        is_not = f" is not in {format_name}" if format_name else ""
        raise UserError(f"{where}{is_not}: {_describe(str(error), content)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{where} is not valid json: {error} (NaN and infinity are not allowed in json)"
        ) from error
    except RecursionError as error:
        raise UserError(f"{where} has too many lists or mappings in each other") from error


def check_memory(content: bytes, where: str, max_memory: int = MAX_MEMORY) -> None:
    """UserError where the decoded text would need more memory; counting takes 1/20 of decoding."""
    if len(content) < min(COUNTED_FROM, max_memory):
        return
    characters = np.frombuffer(content, dtype=np.uint8)
    needed = len(content)
    sizes = {b"{": BYTES_PER_MAPPING, b"[": BYTES_PER_LIST, b",": BYTES_PER_VALUE}
    for start in range(0, len(characters), CHUNK):
        chunk = characters[start : start + CHUNK]
        for character, size in sizes.items():
            needed += size * int(np.count_nonzero(chunk == ord(character)))
    if needed > max_memory:
        raise UserError(
            f"{where} would need about {needed / 2**30:.2g} GB of memory, the limit is "
            f"{max_memory / 2**30:.2g} GB{RAISE_LIMIT}"
        )


# ---- messages ----


def _describe(message: str, content: bytes) -> str:
    """msgspec's message as the end of a sentence: the place in the file, and what is wrong."""
    position = _PLACE.search(message)
    text = message[: position.start()] if position else message
    path = position[1] if position else ""
    return f"{_name_place(path, content)}{_in_words(text)}"


def _name_place(path: str, content: bytes) -> str:
    """'.annotations[3].area' -> "annotations[3] (id 12), 'area' ": with the id of the record."""
    record = _RECORD.match(path)
    if record is None:
        return f"'{path.lstrip('.')}' " if path else "the file "

    list_name, index, rest = record.groups()
    name = f"'{list_name}'[{index}]" if list_name else f"entry {index}"
    record_id = _record_id(content, list_name, int(index))
    identity = f" ({record_id})" if record_id else ""
    field = f", '{rest.lstrip('.')}'" if rest else ""
    return f"{name}{identity}{field} "


def _record_id(content: bytes, list_name: str | None, index: int) -> str:
    """ "id 12" or "image_id 12" of a record, '' where it has neither."""
    try:
        records: Any = content
        if list_name is not None:
            records = msgspec.json.decode(content, type=dict[str, msgspec.Raw])[list_name]
        record = msgspec.json.decode(records, type=list[msgspec.Raw])[index]
        fields = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
        for key in ("id", "image_id"):
            if key in fields:
                return f"{key} {bytes(fields[key]).decode()[:SHOWN_CHARACTERS]}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError):
        pass
    return ""


def _in_words(text: str) -> str:
    """'Expected `float`, got `str`' -> 'must be a number, not text'."""
    match = _EXPECTED.match(text)
    if match is None:
        return f"cannot be used ({text})"
    kinds, rest = match.groups()
    if kinds == _SCALAR_KINDS:
        return "has too many lists or mappings in each other"
    words = [_TYPE_WORDS.get(kind.strip(), kind) for kind in kinds.split("|")]
    expected = " or ".join(word for word in words if word != "null" or len(words) == 1)
    got = _GOT.search(rest)
    if got is not None:
        return f"must be {expected}, not {_TYPE_WORDS.get(got[1], got[1])}"
    return f"must be {expected}{rest}"
