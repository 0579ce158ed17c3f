"""The small files of a run folder, which may come from somebody else: lock, values, settings."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import orjson
import pytest

from duopose.errors import UserError, path_errors_as_user_errors
from duopose.inference.unfinished import UnfinishedFile, count_finished, key_of, take_over
from duopose.locks import FINISHED, FolderLock, Owner, owner_state, read_owner
from duopose.training.run_list import find_runs, runs_text
from duopose.visualize import curves
from duopose.visualize.curves import plot_curves, read_curves

HEADER = "step,epoch,kind,name,value\n"
OWNER = {"host": "h", "process": 1, "process_start": "5", "started": "now", "command": "c"}


def plant(path: Path, kind: str) -> None:
    """Put something that is no file of ours into the place of one."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.parent.joinpath("outside").write_text("as it was")
        path.symlink_to("outside")


@pytest.mark.parametrize("kind", ["FIFO", "endless", "folder", "link"])
def test_a_lock_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.lock"
    plant(path, kind)
    assert owner_state(path) is None
    with (
        pytest.raises(UserError, match=r"run\.lock"),
        path_errors_as_user_errors(),
        FolderLock(path).hold(),
    ):
        pass
    if kind == "link":
        assert (tmp_path / "outside").read_text() == "as it was"


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 70_000, b"{}", b"5", orjson.dumps(OWNER | {"process": "1"}),
     orjson.dumps(OWNER | {"state": [1]}), orjson.dumps(OWNER | {"state": "\x1b[2J"}),
     orjson.dumps(OWNER | {"command": "c" * 100_000})],
)  # fmt: skip
def test_other_contents_of_a_lock_are_no_owner(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.lock"
    path.write_bytes(content)
    assert read_owner(path) is None
    with FolderLock(path).hold() as lock:
        lock.end(FINISHED)
        lock.write_previous(tmp_path / "previous")
    assert owner_state(path) is not None and not (tmp_path / "previous").exists()


def test_what_a_lock_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.write_bytes(orjson.dumps(OWNER | {"state": FINISHED}))
    assert read_owner(path) == Owner("h", 1, "5", "now", "c", FINISHED)


@pytest.mark.parametrize("kind", ["FIFO", "endless", "folder"])
def test_the_list_of_runs_waits_for_nothing(tmp_path: Path, kind: str) -> None:
    for name in ("config.yaml", "metrics.csv", "run.lock"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text("TRAIN: {END_EPOCH: [x]}\nDATASET: {DATASET: [y]}\n")
        (folder / "protocol.json").write_text("{}")
        (folder / name).unlink(missing_ok=True)
        plant(folder / name, kind)
    runs = find_runs(tmp_path)
    assert len(runs) == 3 and {(run.epoch, run.best) for run in runs} == {(0.0, None)}
    assert "config.yaml" in runs_text(runs)


@pytest.mark.parametrize(
    "line",
    ["1,nan,val,AP,nan", "1,inf,val,AP,1e308", "x,y,val,AP,z", "2,2,val,AP,-1e308",
     "1,-5,val,AP,1", "1," * 9999, f"1,1,val,{'A' * 5000},1", "1,1,val,\x1b[2J,1",
     "1,1,val,$\\bad$,1"],
)  # fmt: skip
def test_lines_of_metrics_of_another_form_are_skipped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(f"{HEADER}3,1,val,AP,0.5\n{line}\n")
    assert set(read_curves(path)) == {("val", "AP")}
    plot_curves(path, tmp_path / "curves.png", title="a $\\bad$ folder")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_many_names_of_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(HEADER + "".join(f"1,1,train,name {n},1\n" for n in range(100)))
    panels = curves.curve_panels(read_curves(path))
    assert sum(map(len, panels.values())) == curves.MAX_CURVES
    monkeypatch.setattr(curves, "MAX_NAMES", 50)
    with pytest.raises(UserError, match="50"):
        read_curves(path)
    with pytest.raises(UserError, match=r"1e\+12|bytes"):
        with path.open("wb") as file:
            file.truncate(1 << 40)
        read_curves(path)


@pytest.mark.parametrize("kind", ["FIFO", "endless"])
def test_unfinished_images_are_read_from_regular_files(tmp_path: Path, kind: str) -> None:
    plant(tmp_path / "unfinished_0.jsonl", kind)
    plant(tmp_path / "unfinished_x.jsonl", kind)
    assert count_finished(tmp_path) == 0
    with pytest.raises(OSError, match=r"unfinished_0\.jsonl"):
        take_over(tmp_path, key_of({}))
    (tmp_path / "unfinished_0.jsonl").unlink()
    assert take_over(tmp_path, key_of({})) == []
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished_0.jsonl"]


def test_a_link_in_the_place_of_unfinished_images(tmp_path: Path) -> None:
    plant(tmp_path / "unfinished_0.jsonl", "link")
    with pytest.raises(OSError, match="is a link"):
        UnfinishedFile(tmp_path, "key", 0)
    assert (tmp_path / "outside").read_text() == "as it was"


@pytest.mark.parametrize(
    "content",
    [5, None, [1], [1, 2, 3, 4, 5], [1, *[["float64", [1, 17, 3], [0]]] * 4],
     [1, *[["object", [0], []]] * 4], [1, *[["float64", [-1], []]] * 4],
     [{}, ["float64", [0, 17, 3], []], ["float64", [0], []], ["bool", [0, 17], []], None],
     [1, ["float64", [0, 17, 3], []], ["float64", [0], []], ["bool", [2, 0], []], None]],
)  # fmt: skip
def test_whole_lines_with_another_content(tmp_path: Path, content: object) -> None:
    lines = [orjson.dumps("key"), orjson.dumps(content)]
    text = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)
    (tmp_path / "unfinished_0.jsonl").write_bytes(text)
    assert take_over(tmp_path, "key") == []
