"""Reading MATLAB's .mat files of others (version 7 and older) as plain values.

scipy trusts the sizes in a file: a few bytes promise gigabytes, and a flipped byte can end the
process. It therefore reads in a process with limits (`limited_process.py`), which runs this module
and answers with json. The result:

    struct array   a list of mappings, one for each struct
    cell           a list
    number, text   the value; an empty array is None, several values are a flat list
    NaN, infinity  None, and the text "inf" or "-inf"
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from duopose.errors import UserError
from duopose.json_files import MAX_MEMORY, check_memory, decode_json
from duopose.limited_process import USER_ERROR, ProcessLimits, run_limited
from duopose.regular_files import open_regular, reason_of

MAX_BYTES = 200 * 2**20  # of a file; MPII's has 12 MB
# Of the process that reads it, beyond its libraries; MPII's file needs half of it.
MAX_READER_MEMORY = int(1.5 * 2**30)
SECONDS = 8.0  # of the processor, and more for each MB of the file, which takes about 2
SECONDS_PER_MEGABYTE = 10.0
MAX_DEPTH = 16  # of structs and cells in each other; MPII's file has 6
MAX_TEXT = 256 * 2**20  # bytes of the answer
_VALUE_KINDS = "biufU"  # numpy's letters of bool, whole numbers, numbers and text

_ANY_VALUE: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def read_mat(path: str | Path, variable: str) -> Any:
    """The value of a variable.

    UserError where the file is missing, no regular file, too large, damaged, of another version,
    needs more memory or time than the limits, or has no such variable.
    """
    where = f"'{path}'"
    try:
        with open_regular(path, MAX_BYTES) as file:
            megabytes = file.seek(0, 2) / 2**20
    except FileNotFoundError as error:
        folder = Path(path).absolute().parent
        raise UserError(f"{where} does not exist (looked in {folder})") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {reason_of(error)}") from error

    limits = ProcessLimits(MAX_READER_MEMORY, SECONDS + SECONDS_PER_MEGABYTE * megabytes)
    content = run_limited(__name__, [variable, str(Path(path).absolute())], where, limits)
    check_memory(content, where, MAX_MEMORY)
    return decode_json(content, where, _ANY_VALUE)


# ---- in the process with limits ----


def main(arguments: Sequence[str]) -> int:
    """MEMORY SECONDS VARIABLE FILE: the value as json on standard output, or a message."""
    memory, seconds, variable, path = arguments
    import scipy.io  # noqa: F401  # its libraries do not count for the limit

    ProcessLimits(int(memory), float(seconds)).set()
    try:
        content = mat_as_json(path, variable)
    except UserError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return 0


def mat_as_json(path: str, variable: str) -> bytes:
    """The json of a variable; UserError for whatever the file holds, also where memory ends."""
    import scipy.io

    try:
        # appendmat: scipy must not try another name, if the file has been removed
        content = scipy.io.loadmat(path, variable_names=[variable], appendmat=False)
        if variable not in content:
            existing = [name for name, *_ in scipy.io.whosmat(path, appendmat=False)]
            raise UserError(f"'{path}' has no variable {variable}; it has {existing[:20]}")
        text = msgspec.json.encode(plain_value(content[variable]))
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"'{path}' would need more than {MAX_READER_MEMORY / 2**30:.2g} GB of memory; "
            "is it damaged?"
        ) from error
    except Exception as error:  # scipy raises many kinds for damaged files
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(
            f"'{path}' cannot be read as a MATLAB file (version 7 or older): {reason}; "
            "is it damaged?"
        ) from error

    if len(text) > MAX_TEXT:
        raise UserError(f"'{path}' holds more than {MAX_TEXT / 2**20:.0f} MB of values")
    return text


def plain_value(value: Any, depth: int = 0) -> Any:
    """What scipy has read, as described above; structs in it are emptied.

    ValueError where a value is of another kind, or has more structs and cells around it.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} structs and cells in each other")
    names = getattr(getattr(value, "dtype", None), "names", None)
    if names:
        return [_plain_struct(one, names, depth) for one in value.reshape(-1)]

    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "O":
        return [plain_value(one, depth + 1) for one in value.reshape(-1)]
    if kind in _VALUE_KINDS:
        values = value.reshape(-1).tolist()
        if kind == "f":
            values = [one if math.isfinite(one) else _not_finite(one) for one in values]
        return values if len(values) > 1 else values[0] if values else None
    raise ValueError(f"a value of the type {type(value).__name__}, which is not read")


def _plain_struct(struct: Any, names: Sequence[str], depth: int) -> dict[str, Any]:
    """The fields, each of which is removed from the struct, so that memory holds one of both."""
    plain = {}
    for name in names:
        plain[name] = plain_value(struct[name], depth + 1)
        struct[name] = None
    return plain


def _not_finite(value: float) -> str | None:
    return None if math.isnan(value) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
