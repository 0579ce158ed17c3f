"""tools/predict.py as a user runs it: sources, options, and mistakes."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.documented_commands import load_tool
from tests.predict.conftest import write_tiny_model
from tests.predict.crossings import crossing_video, write_video

PROJECT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an image, a text and a short video."""
    folder = tmp_path_factory.mktemp("predict")
    write_tiny_model(folder / "tiny.pth")
    (folder / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "in" / "a.jpg"), image)
    write_video(folder / "in" / "b.mp4", crossing_video(0, num_frames=4))
    (folder / "in" / "c.jpg").write_text("no image")
    return folder


def test_a_folder_with_everything(folder: Path, run_tool: Run, tmp_path: Path) -> None:
    words = ["--model", folder / "tiny.pth", "--out", tmp_path, "--csv", "--track"]
    ended = run_tool("predict", folder / "in", *words, "TEST.MAX_PEOPLE", 2)
    assert str(folder / "in" / "c.jpg") in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000001_a.jpg", "000002_b.mp4", "predictions.csv", "predictions.json",
    ]  # fmt: skip
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert len(content["images"]) == 5 and content["info"]["model"] == "tiny.pth"
    people = [entry["image_id"] for entry in content["annotations"]]
    assert 0 < max(people.count(image_id) for image_id in range(1, 6)) <= 2


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Standard error of a call, in this process, that must end with exit code 2."""
    spec = importlib.util.spec_from_file_location("predict_tool", PROJECT / "tools" / "predict.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*words: object) -> str:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            assert tool.main([str(word) for word in words]) == 2
        finally:
            signal.signal(signal.SIGTERM, handler)
        return capsys.readouterr().err

    return run


def test_nothing_readable(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    out = tmp_path / "out"
    error = fails(folder / "in" / "c.jpg", "98", "--model", folder / "tiny.pth", "--out", out)
    assert "c.jpg" in error and "camera 98" in error and not out.exists()


def test_settings_follow_the_sources() -> None:
    tool = load_tool("predict")
    settings = ["TEST.FLIP_TEST=False", "THREADS", "2", "MODEL.WIDTH", "32"]
    assert tool.split_words(["a.jpg", "TESTS", *settings]) == (["a.jpg", "TESTS"], settings)


def test_wrong_words(
    folder: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ["--model", folder / "tiny.pth"]
    (tmp_path / "file").touch()
    assert "missing.jpg" in fails("missing.jpg", *model)
    assert "TEST.MAX_PEPLE" in fails(folder / "in", *model, "TEST.MAX_PEPLE", 3)
    assert "TEST.FLIP_TSET" in fails(folder / "in", *model, "TEST.FLIP_TSET=True")
    assert "--batch 0" in fails(folder / "in", *model, "--batch", 0)
    assert str(tmp_path / "file") in fails(folder / "in", *model, "--out", tmp_path / "file")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    out = ["--out", tmp_path / "shown"]
    assert "DISPLAY" in fails(folder / "in" / "a.jpg", *model, *out, "--show")
    assert not (tmp_path / "shown").exists()
