"""Runs in a process with limits, for test_mat_files: reads many files, or does what is wrong."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import orjson
import scipy.io  # noqa: F401  # its libraries do not count for the limit

from duopose.errors import UserError
from duopose.limited_process import USER_ERROR, ProcessLimits
from duopose.mat_files import mat_as_json


def read_all(folder: Path) -> None:
    """Print a mapping: name of a file -> null, the message, or the signal that ended its reader."""
    outcomes: dict[str, str | int | None] = {}
    for path in sorted(folder.glob("*.mat")):
        message_file = path.with_suffix(".txt")
        child = os.fork()
        if child == 0:
            read_one(path, message_file)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes[path.name] = message_file.read_text() if status == USER_ERROR else status or None
    sys.stdout.buffer.write(orjson.dumps(outcomes))


def read_one(path: Path, message_file: Path) -> None:
    """End this process with 0, or with USER_ERROR and a message."""
    try:
        mat_as_json(str(path), "RELEASE")
    except UserError as error:
        message_file.write_text(str(error))
        os._exit(USER_ERROR)
    except BaseException:
        os._exit(1)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """MEMORY SECONDS WHAT [FOLDER]"""
    memory, seconds, what = arguments[:3]
    ProcessLimits(int(memory), float(seconds)).set()
    if what == "read":
        read_all(Path(arguments[3]))
    elif what == "fill":
        print(len(bytearray(2**30)))
    elif what == "sleep":
        time.sleep(600)
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while what == "spin":
        pass


if __name__ == "__main__":
    main(sys.argv[1:])
