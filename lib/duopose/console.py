"""Standard output and standard error that may lose their reader.

`tool | head -1` closes the pipe, and a closed terminal refuses writing. The work of a tool must not
end with its reader: what it prints is lost, its files are written, and its exit code stays.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

from duopose.errors import UserError, path_errors_as_user_errors

READER_GONE = {errno.EPIPE, errno.EIO}  # a closed pipe; a closed terminal
INTERRUPTED = 130  # Ctrl-C, as shells report it
USER_ERROR = 2
OUTPUT_LOST = 2  # standard output is a file on a full disk


# All control characters but tab, line feed, and carriage return, which progress bars use.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def run_tool(main: Callable[..., int], *arguments: object) -> int:
    """Call a tool's `main(*arguments)` with guarded standard streams; its exit code.

    Errors about paths and disks, and full memory, are a sentence and exit code 2 in every tool.
    """
    guard_standard_streams()
    try:
        with path_errors_as_user_errors():
            _check_words(sys.argv[1:])
            code = main(*arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        code = USER_ERROR
    except MemoryError:
        print(f"{Path(sys.argv[0]).stem}: the memory is full", file=sys.stderr)
        code = USER_ERROR
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", "")
    if lost:
        print(f"standard output could not be written: {lost}", file=sys.stderr)
        return code or OUTPUT_LOST
    return code


def _check_words(words: list[str]) -> None:
    """UserError for `--option=--`, of which argparse makes an empty list, whatever the type."""
    for word in words:
        if word.startswith("--") and word.endswith("=--"):
            raise UserError(f"{word.removesuffix('=--')} needs a value, and '--' is none")


def guard_standard_streams() -> None:
    """Make prints of this process safe; calling it again does nothing.

    - A closed descriptor 0, 1 or 2 is opened, so that no file of the program gets its number.
    - Where the reader is gone, the stream becomes /dev/null.
    - Letters that the encoding of the terminal lacks are written as escapes, as are those that
      control a terminal: names from files of others would clear it, or change its title.
    """
    for descriptor in range(3):
        _open_if_closed(descriptor)
    sys.stdout = _guarded(sys.stdout, 1)
    sys.stderr = _guarded(sys.stderr, 2)


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _guarded(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # was closed when Python started
        stream = os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
    if isinstance(stream, _Output):
        return cast(TextIO, stream)
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return cast(TextIO, _Output(stream))


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


class _Output:
    """A text stream that goes on without its reader; everything else is that of the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = ""  # why text was lost, where that is not the wish of the reader

    def write(self, text: str) -> int:
        """Write, or lose the text where that is not possible."""
        try:
            return self._stream.write(CONTROL.sub(_escape, text))
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose the text where that is not possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """Let the descriptor lead to nowhere, also for what is still buffered."""
        if error.errno not in READER_GONE:
            self.lost = error.strerror or str(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
