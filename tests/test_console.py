"""A tool whose output nobody reads finishes its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duopose import console

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys, time
from pathlib import Path
from duopose.console import run_tool

def main(words):
    print("first", flush=True)
    while words[1:] and not Path(words[1]).exists():
        time.sleep(0.01)
    for number in range(5000):
        print("line", number, "\\u00e9\\u4eba")
        print("error", number, file=sys.stderr)
    with open(words[0], "w") as file:
        file.write(f"done {file.fileno()}")
    return 3

sys.exit(run_tool(main, sys.argv[1:]))
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT / "lib")}
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_a_closed_pipe_changes_neither_the_work_nor_the_exit_code(tmp_path: Path) -> None:
    go_on, file = tmp_path / "go on", tmp_path / "file"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, file, go_on],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stderr.close()
    go_on.touch()
    assert process.wait(timeout=300) == 3
    assert file.read_text().startswith("done")


@pytest.mark.skipif(sys.platform == "win32", reason="redirections of a Unix shell")
@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-", "2>&-", "<&-"])
def test_closed_descriptors_are_not_given_to_files(tmp_path: Path, closed: str) -> None:
    file = tmp_path / "file"
    command = f'exec "$0" -c "$1" "$2" {closed}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT, file],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 3 and b"Traceback" not in done.stderr
    assert int(file.read_text().split()[1]) > 2


def test_letters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "file"],
        env=ENVIRONMENT | ASCII,
        check=False,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 3 and rb"line 0 \xe9\u4eba" in done.stdout


def test_names_do_not_control_the_terminal() -> None:
    script = "import sys; from duopose.console import run_tool\n"
    script += "sys.exit(run_tool(lambda: print('a\\x1b[2J\\tb\\x9b1m\\x00') or 0))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == "a\\x1b[2J\tb\\x9b1m\\x00\n"


def test_two_dashes_are_no_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "guard_standard_streams", lambda: None)
    monkeypatch.setattr(sys, "argv", ["tool.py", "--number=--"])
    assert console.run_tool(lambda: 0) == 2
    assert "tool: --number" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_into_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from duopose.console import run_tool\n"
             "import sys; sys.exit(run_tool(lambda: print('x') or 0))"],
            env=ENVIRONMENT,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )  # fmt: skip
    assert done.returncode == 2 and "standard output" in done.stderr
    assert "Traceback" not in done.stderr
