"""Each stage of tools/benchmark.py runs at a small size, and measures what it is meant to."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from duopose.config import load_config
from duopose.datasets.loader import collate
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.evaluate.coco import evaluate_coco
from duopose.network import build_network
from duopose.profiling import gpu_stage
from duopose.profiling.decode_stages import DECODE, MERGE
from duopose.profiling.evaluate_stage import EVALUATE, synthetic_results
from duopose.profiling.gpu_stage import GPU
from duopose.profiling.loader_stage import LOADER
from duopose.profiling.measure import (
    Row,
    Stage,
    add_common_arguments,
    format_row,
    limit_threads,
    measure,
    parse_size,
)
from duopose.profiling.synthetic_data import drawn_dataset, synthetic_people
from duopose.profiling.training_stages import LOSSES, NETWORK, TRAIN
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton
from duopose.training.loop import train_step
from duopose.training.setup import TrainingRun
from duopose.types import Batch
from tools import benchmark

TINY_NETWORK = (
    *("DATASET.INPUT_SIZE", "64", "MODEL.WIDTH", "8", "MODEL.STEM_CHANNELS", "8"),
    *("MODEL.BLOCKS", "1", "WORKERS", "0"),
)
TINY_STEP = ("--size", "64", "--width", "8", "--people", "2")


def rows_of(stage: Stage, *options: str) -> list[Row]:
    parser = ArgumentParser()
    add_common_arguments(parser)
    stage.add_arguments(parser)
    return list(stage.run(parser.parse_args(["--repeats", "1", *options])))


# ---- measuring ----


def test_functions_take_turns() -> None:
    order: list[str] = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = measure(functions, repeats=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert set(times) == {"a", "b"}

    order.clear()
    measure(functions, repeats=1, warm_up=0, untimed_calls=2)
    assert order == ["a"] * 3 + ["b"] * 3


def test_the_median_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 10.0, 12.0, 20.0, 29.0])
    monkeypatch.setitem(measure.__globals__["CLOCKS"], "test", lambda: next(moments))
    assert measure({"a": lambda: None}, repeats=3, warm_up=0, clock="test") == {"a": 2000.0}


def test_threads_are_as_before_after_the_block() -> None:
    before = torch.get_num_threads()
    with limit_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_size_is_height_times_width() -> None:
    assert parse_size("512x768") == (512, 768)
    with pytest.raises(UserError, match="512by768"):
        parse_size("512by768")


def test_a_row_is_one_line() -> None:
    row = {"name": "step", "ms": 12.34567, "rate": 1234.5678, "parts": {"a": 0.5}}
    assert format_row(row) == "name step  ms 12.35  rate 1235  parts (a 0.5)"


# ---- synthetic data ----


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda skeleton: skeleton.name)
def test_synthetic_people_stand_upright_inside_the_image(skeleton: Skeleton) -> None:
    people = synthetic_people(20, 640, 480, skeleton)
    assert people.shape == (20, skeleton.num_keypoints, 3)
    assert (people >= 0).all() and (people[..., :2] <= [639, 479]).all()
    mean = dict(zip(skeleton.keypoints, people[..., :2].mean(axis=0), strict=True))
    assert mean["left_shoulder"][1] < mean["left_hip"][1] < mean["left_ankle"][1]
    assert mean["left_hip"][0] > mean["right_hip"][0]


# ---- stages ----


def test_loader() -> None:
    sample, loader = rows_of(LOADER, "--images", "2", "--workers", "1", "--size", "512")
    ratio = sample["sample_ms"] / sample["decode_ms"]
    assert sample["decodes_per_sample"] == pytest.approx(ratio)
    assert 3 * 512 * 512 < sample["bytes_per_sample"] < 1_000_000
    assert loader["samples_per_second"] > 0


def test_losses_as_a_fraction_of_a_step() -> None:
    rows = rows_of(LOSSES, *TINY_STEP)
    fraction = {row["name"]: row["fraction"] for row in rows}
    assert fraction["step"] == 1
    both = fraction["targets"] + fraction["losses"]
    assert fraction["targets and losses"] == pytest.approx(both)


def test_train_compares_with_the_plain_variant() -> None:
    plain, default = rows_of(TRAIN, *TINY_STEP, "--ends-only")
    assert plain["ratio"] == 1
    assert plain["gain"] == 0
    assert default["ratio"] == pytest.approx(1 - default["gain"])


def test_network() -> None:
    rows = rows_of(NETWORK, "--size", "64x64", "MODEL.WIDTH", "8")
    assert [row["name"] for row in rows] == ["forward", "forward and backward"]
    assert rows[0]["parameters"] == rows[1]["parameters"] > 0


def test_merge() -> None:
    settings = ("DATASET.INPUT_SIZE", "64")
    (row,) = rows_of(MERGE, *settings, "--size", "60x90", "--scales", "0.5", "1")
    assert row["passes"] == 4
    assert row["ratio"] == pytest.approx(row["total_ms"] / row["dilation_ms"])


def test_decode_finds_the_synthetic_people() -> None:
    row, crowded = rows_of(DECODE, "--people", "1", "4", "--size", "256x256")
    assert row["found"] == 1
    assert crowded["found"] == 4
    assert set(row["phases"]) == {"peaks", "grouping", "refining, filling, ranking"}


def test_evaluate_gives_the_numbers_of_pycocotools() -> None:
    results_file, scoring = rows_of(EVALUATE, "--images", "12", "--detections", "5")
    assert results_file["times_faster"] > 0
    assert scoring["same_numbers"]
    assert scoring["people"] == 60
    assert set(scoring["times_faster"]) == {"ours", "ours, file of ours", "ours, from memory"}


def test_what_is_scored_is_neither_perfect_nor_random() -> None:
    score = evaluate_coco(*synthetic_results(40, 20), COCO).values["AP50"]
    assert score is not None and 0.05 < score < 0.95


# ---- the GPU stage, on the CPU ----


def test_gpu_stage_uses_the_training_code() -> None:
    sizes = ("--device", "cpu", "--batch", "2", "--steps", "2", "--images", "2", "--matrix", "64")
    device, matrix, step, fed = rows_of(GPU, *sizes, *TINY_NETWORK, "FP16.ENABLED", "False")
    assert device["device"] == "cpu"
    assert matrix["tflops"] > 0
    assert step["batch"] == 2
    assert step["of_matrix_rate"] > 0
    assert set(step["fractions"]) == set(gpu_stage.PARTS)
    assert sum(step["fractions"].values()) == pytest.approx(1)
    assert fed["busy"] > 0
    assert 0 < fed["waiting_for_data"] < 1


def test_the_timed_step_is_the_training_step(tmp_path: Path) -> None:
    cfg = load_config(None, list(TINY_NETWORK))
    dataset = gpu_stage.RepeatedDataset(drawn_dataset(tmp_path, 2, 64))
    batch = collate([dataset[(0, 0)], dataset[(0, 1)]])
    context = DistributedContext(torch.device("cpu"))

    def weights_after(step: Callable[[TrainingRun, Batch], object]) -> torch.Tensor:
        torch.manual_seed(0)
        run = gpu_stage.build_training(cfg, dataset, context, 2, tmp_path)
        step(run, batch)
        return flat_weights(run.state.network)

    timed = weights_after(gpu_stage.timed_step)
    trained = weights_after(lambda run, batch: train_step(run, [batch]))
    torch.manual_seed(0)
    start = flat_weights(build_network(cfg, COCO))
    torch.testing.assert_close(timed, trained, rtol=0, atol=0)
    assert (timed != start).any()


def flat_weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_few_images_are_repeated_with_new_augmentation(tmp_path: Path) -> None:
    images = drawn_dataset(tmp_path, 2, 64)
    dataset = gpu_stage.RepeatedDataset(images)
    assert torch.equal(*(torch.from_numpy(one.image) for one in (dataset[(0, 3)], images[(1, 1)])))


def test_gpu_stage_without_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match="CUDA"):
        rows_of(GPU)


# ---- the tool ----


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("nonsense", 2)])
def test_the_tool_names_its_stages(
    argument: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([argument]) == code
    printed = capsys.readouterr()
    for stage in (*benchmark.STAGES, "all"):
        assert stage in printed.out + printed.err


def test_no_repeats_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["decode", "--repeats", "-1"]) == 2
    assert "-1" in capsys.readouterr().err


def test_the_tool_writes_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ("--images", "3", "--detections", "2", "--repeats", "1", "--json", str(file))
    assert benchmark.main(["evaluate", *options]) == 0
    content = json.loads(file.read_text())
    assert [row["name"] for row in content["rows"]] == ["results file", "scoring"]
    assert content["environment"]["torch"] == torch.__version__
