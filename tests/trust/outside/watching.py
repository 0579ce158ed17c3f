"""A box with a user's folder and a canary beside it, and calls of tools that are watched."""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
TOKEN = "canary-5b81e2"  # in the files of the canary, and never in an output
MAX_CPU = 10.0  # seconds of all processes of a call; with the imports done, a start takes 0.1
MAX_BYTES = 2 * 10**9  # resident, of all processes together
MAX_IDLE = 60.0  # seconds in which no process of a call computes
CODES = (0, 1, 2, 3)
MAX_OUTPUT = 200_000  # bytes that are looked at

# Bits of inotify(7).
IS_FOLDER = 0x40000000
EVENTS = {0x1: "read", 0x2: "written", 0x4: "changed", 0x20: "opened", 0x40: "moved", 0x80: "moved",
          0x100: "made", 0x200: "removed"}  # fmt: skip


@dataclass(frozen=True)
class Box:
    """`inside` is the user's folder, where tools are called; `outside` is the canary."""

    root: Path

    @property
    def inside(self) -> Path:
        """The working folder of the tools."""
        return self.root / "inside"

    @property
    def outside(self) -> Path:
        """What no tool may open or change."""
        return self.root / "outside"

    def fill(self, template: Path, canary: Path) -> None:
        """Begin anew with copies of both folders."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(template, self.inside)
        shutil.copytree(canary, self.outside)


@dataclass(frozen=True)
class Streams:
    """Paths, `closed`, or `no reader`; empty: files in the box, for standard input /dev/null."""

    stdin: str = os.devnull
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Ended:
    """What a call has done."""

    code: int
    cpu: float
    bytes: int
    stopped: str
    left: int  # processes that have outlived the call
    output: str
    errors: str
    touched: list[str] = field(default_factory=list)  # of the canary
    leaks: list[str] = field(default_factory=list)  # files that hold the token

    def problems(self) -> list[str]:
        """Everything that must not happen."""
        text = self.output + self.errors
        checks = {
            f"stopped, too much {self.stopped}": bool(self.stopped),
            f"exit code {self.code}": not self.stopped and self.code not in CODES,
            "a traceback": "Traceback" in text,
            f"{self.cpu:.1f} s": self.cpu > MAX_CPU,
            f"{self.bytes / 1e6:.0f} MB": self.bytes > MAX_BYTES,
            f"{self.left} processes are left": self.left > 0,
            f"touched outside: {self.touched[:5]}": bool(self.touched),
            f"read outside: {self.leaks[:5]}": bool(self.leaks),
            "an error without a sentence": self.code == 2 and not text.strip(),
            "control characters": any(ord(c) < 32 and c not in "\n\r\t" for c in text),
        }
        return [problem for problem, is_there in checks.items() if is_there]


class Watcher:
    """Calls tools in a box through a fork server, and watches the canary; a context manager."""

    def __init__(self, box: Box, log: Path) -> None:
        self.box = box
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                       "PYTHONPATH": str(PROJECT / "lib")}  # fmt: skip
        with log.open("wb") as errors:
            self._server = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            )  # fmt: skip
        assert self._answer() == b"ready\n", log.read_text()

    def call(self, tool: str, *words: object, streams: Streams | None = None) -> Ended:
        """Run a tool in the box; `-c` runs the first word as Python does."""
        streams = streams or Streams()
        root = self.box.root
        files = {"stdin": streams.stdin, "stdout": streams.stdout or str(root / "stdout"),
                 "stderr": streams.stderr or str(root / "stderr")}  # fmt: skip
        limits = {"max_bytes": 1.2 * MAX_BYTES, "max_cpu": 2 * MAX_CPU, "max_idle": MAX_IDLE}
        call = {"tool": tool, "words": [str(word) for word in words], "environment": {},
                "folder": str(self.box.inside), **files, **limits}  # fmt: skip

        before = listing(self.box.outside)
        with Inotify(self.box.outside) as events:
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(call).encode() + b"\n")
            self._server.stdin.flush()
            answer = json.loads(self._answer())
            touched = events.names()
        if listing(self.box.outside) != before:
            touched.append("the listing")
        texts = [text_of(root / name) for name in ("stdout", "stderr")]
        return Ended(**answer, output=texts[0], errors=texts[1], touched=touched,
                     leaks=files_with_token(root))  # fmt: skip

    def _answer(self) -> bytes:
        assert self._server.stdout is not None
        return self._server.stdout.readline()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def text_of(path: Path) -> str:
    """What was printed."""
    return path.read_bytes()[:MAX_OUTPUT].decode(errors="replace") if path.is_file() else ""


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of everything in a folder."""
    paths = sorted(folder.rglob("*"))
    statuses = [path.lstat() for path in paths]
    return [
        (str(path), status.st_size, status.st_mtime_ns)
        for path, status in zip(paths, statuses, strict=True)
    ]


def files_with_token(root: Path) -> list[str]:
    """Files of the box, outside the canary, that hold the token."""
    found = []
    for path in (root / "stdout", root / "stderr", *(root / "inside").rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        if is_file and path.stat().st_size < 10**8 and TOKEN.encode() in path.read_bytes():
            found.append(path.name)
    return found


class Inotify:
    """What happens to the files of a folder; a context manager."""

    def __init__(self, root: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        mask = ctypes.c_uint32(sum(EVENTS))
        for folder in folders:
            number = library.inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
            assert number >= 0, os.strerror(ctypes.get_errno())

    def names(self) -> list[str]:
        """Names of files with what was done to them."""
        found = set()
        while select.select([self._descriptor], [], [], 0)[0]:
            content = os.read(self._descriptor, 1 << 16)
            while content:
                _, mask, _, length = struct.unpack_from("iIII", content)
                name = content[16 : 16 + length].rstrip(b"\0").decode(errors="replace")
                content = content[16 + length :]
                if name and not mask & IS_FOLDER:
                    found |= {f"{name} {word}" for bit, word in EVENTS.items() if mask & bit}
        return sorted(found)

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
