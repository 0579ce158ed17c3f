"""An evaluation that is killed goes on from its finished images, and gives the same file."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duopose.datasets.sample_data.write import make_sample_data
from duopose.distributed.context import DistributedContext
from duopose.errors import NotFiniteError
from duopose.inference import evaluation
from duopose.inference.model import read_model_settings
from duopose.inference.predictor import Predictor
from duopose.inference.unfinished import (
    UnfinishedFile,
    count_finished,
    key_of,
    remove,
    take_over,
)
from duopose.skeletons import COCO
from duopose.types import ImageResult, Poses


def result(image_id: int | str, people: int, sigma: bool) -> ImageResult:
    rng = np.random.default_rng(people)
    return ImageResult(
        image_id,
        Poses(
            rng.normal(size=(people, 17, 3)),
            rng.normal(size=people).astype(np.float32),
            rng.random((people, 17)) > 0.5,
            rng.normal(size=(people, 17)) if sigma else None,
        ),
    )


def same(one: ImageResult, two: ImageResult) -> bool:
    """Every bit, every type and every shape."""
    pairs = [
        (getattr(one.poses, name), getattr(two.poses, name))
        for name in ("keypoints", "scores", "filled", "sigma")
    ]
    equal = [
        a is b is None or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
        for a, b in pairs
    ]
    return one.image_id == two.image_id and all(equal)


def test_finished_images_come_back_with_every_bit(tmp_path: Path) -> None:
    """From two ranks, without the line that was half written when the process was killed."""
    results = [result(1, 2, True), result("b", 0, False), result(3, 30, False)]
    with UnfinishedFile(tmp_path, "key", 0) as first, UnfinishedFile(tmp_path, "key", 1) as second:
        first.append(results[0])
        first.append(results[1])
        second.append(results[2])
    last = tmp_path / "unfinished_1.jsonl"
    last.write_bytes(last.read_bytes() + last.read_bytes().splitlines()[1][:100])

    found = take_over(tmp_path, "key")
    assert len(found) == 3 and all(map(same, found, results))
    assert count_finished(tmp_path) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished_0.jsonl"]
    assert all(map(same, take_over(tmp_path, "key"), results))

    assert take_over(tmp_path, "another key") == []
    assert count_finished(tmp_path) == 0
    remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with UnfinishedFile(tmp_path / "other", "key", 0) as file:
        file.append(result(1, 2, True))
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "unfinished_0.jsonl").symlink_to(tmp_path / "other" / "unfinished_0.jsonl")

    assert count_finished(folder) == 0
    assert take_over(folder, "key") == []
    assert count_finished(tmp_path / "other") == 1


def test_the_key_depends_on_every_value() -> None:
    record = {"flip": True, "scales": [1.0], "test_settings": {"NMS": 5}}
    other = record | {"test_settings": {"NMS": 7}}
    assert key_of(record) == key_of(dict(reversed(record.items()))) != key_of(other)


@pytest.fixture
def evaluate(tmp_path: Path, write_model: Callable[..., Path]) -> Callable[[Path], list[int]]:
    """Evaluates a tiny network on six images into a folder; the ids of the predicted images."""
    counts = {"train": 1, "val": 6}
    make_sample_data(tmp_path / "data", counts, seed=3, size=96, skeleton=COCO, workers=1)
    model = write_model(("DATASET.ROOT", str(tmp_path / "data"), "WORKERS", 0))
    cfg, skeleton = read_model_settings(model, ["DATASET.ROOT", str(tmp_path / "data")])
    context = DistributedContext(torch.device("cpu"))

    def run(folder: Path) -> list[int]:
        predicted: list[int] = []
        decode = Predictor.decode

        def count(self: Predictor, image: object, *rest: object) -> ImageResult:
            one = decode(self, image, *rest)  # type: ignore[arg-type]
            predicted.append(int(one.image_id))
            return one

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Predictor, "decode", count)
            evaluation.run_evaluation(context, cfg, skeleton, model, folder)
        return predicted

    return run


def test_a_killed_evaluation_goes_on(
    tmp_path: Path, evaluate: Callable[[Path], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(tmp_path / "whole")
    assert len(whole) == 6 and count_finished(tmp_path / "whole") == 0

    def killed() -> None:
        append = UnfinishedFile.append

        def append_and_die(self: UnfinishedFile, one: ImageResult) -> None:
            append(self, one)
            if count_finished(tmp_path / "cut") == 4:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(UnfinishedFile, "append", append_and_die)
        evaluate(tmp_path / "cut")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "results.json").exists()

    rest = evaluate(tmp_path / "cut")
    assert len(rest) == 2 and set(rest) < set(whole)
    files = [tmp_path / name / "results.json" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert count_finished(tmp_path / "cut") == 0


def test_outputs_that_are_not_finite_name_the_image(
    tmp_path: Path, evaluate: Callable[[Path], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the network to the message, at the second image that is decoded."""
    forward = Predictor.forward
    calls: list[int | str] = []

    def forward_with_nan(self: Predictor, batch: list[object]) -> object:
        passes = forward(self, batch)  # type: ignore[arg-type]
        calls.append(batch[0].image_id)  # type: ignore[attr-defined]
        with torch.inference_mode():
            for maps in passes[0][0].output.heatmaps:
                maps[0, 3].fill_(float("nan") if len(calls) == 2 else 0)
        return passes

    monkeypatch.setattr(Predictor, "forward", forward_with_nan)
    with pytest.raises(NotFiniteError) as caught:
        evaluate(tmp_path / "out")
    assert f"image id {calls[1]}: " in str(caught.value) and "channel 3" in str(caught.value)
    assert count_finished(tmp_path / "out") == 1
