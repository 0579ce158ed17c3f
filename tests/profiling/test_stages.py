"""Each stage of targets, losses and network runs at a small size and tells what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
import torch

from duopose.config import load_config
from duopose.datasets.loader import collate
from duopose.errors import UserError
from duopose.network import build_network
from duopose.profiling import gpu_stage as gpu
from duopose.profiling import loader_stage as loader
from duopose.profiling import losses_stage as losses
from duopose.profiling import network_stage as network
from duopose.profiling import train_stage as train
from duopose.profiling.measure import add_common_arguments, measure
from duopose.profiling.step_parts import marked_step
from duopose.skeletons import COCO
from duopose.training.loop import train_step

PROJECT = Path(__file__).resolve().parents[2]


def rows_of(stage: Any, *options: str) -> list[dict[str, Any]]:
    parser = ArgumentParser()
    add_common_arguments(parser)
    stage.add_arguments(parser)
    return stage.run(parser.parse_args(["--repeats", "1", *options]))["rows"]


def test_losses_as_a_fraction_of_a_step() -> None:
    rows = rows_of(losses, "--width", "8", "--people", "2", "--size", "64")
    fraction = {row["losses"]: row["fraction"] for row in rows}
    assert fraction["step"] == 1
    assert fraction["targets and losses"] == fraction["targets"] + fraction["losses"]


def test_train_compares_with_the_plain_form() -> None:
    rows = rows_of(train, "--size", "64", "--width", "8", "--ends-only")
    assert rows[0]["ratio"] == 1 and len(rows) == 2


def test_network() -> None:
    rows = rows_of(network, "--size", "64x64", "MODEL.WIDTH", "8")
    assert [row["network"] for row in rows] == ["forward", "forward and backward"]


def test_works_take_turns() -> None:
    order: list[str] = []
    times = measure(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2, warm_up=1
    )
    assert order == ["a", "b"] * 3 and set(times) == {"a", "b"}


def test_works_can_settle_before_they_are_timed() -> None:
    order: list[str] = []
    measure(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        repeats=1,
        warm_up=0,
        settle=2,
    )
    assert order == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["nonsense"], 2)])
def test_the_tool_names_its_stages(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "tools/benchmark.py", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == code
        and "loss" in done.stdout + done.stderr
        and "Traceback" not in done.stderr
    )


def test_the_tool_writes_rows(tmp_path: Path) -> None:
    file = tmp_path / "loss.json"
    options = [
        "--batch",
        "1",
        "--people",
        "1",
        "--width",
        "8",
        "--size",
        "64",
        "--repeats",
        "1",
        "--json",
        str(file),
    ]
    subprocess.run(
        [sys.executable, "tools/benchmark.py", "losses", *options],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    assert json.loads(file.read_text())["rows"][0]["losses"] == "step"


def test_gpu_stage_by_the_engine_itself() -> None:
    """On the CPU at a tiny size: the shares are of one whole, and the fed engine takes its steps."""
    tiny = (
        "DATASET.INPUT_SIZE",
        "64",
        "MODEL.WIDTH",
        "8",
        "MODEL.STEM_CHANNELS",
        "8",
        "MODEL.BLOCKS",
        "1",
        "FP16.ENABLED",
        "False",
    )
    sizes = ("--device", "cpu", "--batch", "2", "--steps", "2", "--images", "2", "--matrix", "64")
    device, ceiling, step, fed = rows_of(gpu, *sizes, *tiny, "WORKERS", "0")
    assert device["name"] == "cpu" and ceiling["tflops"] > 0 and step["batch"] == 2
    assert set(step["shares"]) == {"forward", "targets", "loss", "backward", "optimizer"}
    assert sum(step["shares"].values()) == pytest.approx(1)
    assert step["of_matrix_rate"] > 0 and fed["busy"] > 0 and 0 < fed["waiting_for_data"] < 1


def test_the_step_that_is_taken_apart_is_the_engines(tmp_path: Path) -> None:
    cfg = load_config(
        None,
        [
            "DATASET.INPUT_SIZE",
            64,
            "MODEL.WIDTH",
            8,
            "MODEL.STEM_CHANNELS",
            8,
            "MODEL.BLOCKS",
            1,
            "WORKERS",
            0,
        ],
    )
    dataset = gpu.Repeated(loader.make_dataset(tmp_path, 2, 64))
    weights = []
    for step in (marked_step, lambda run, batch: train_step(run, [batch])):
        torch.manual_seed(0)
        run = gpu.build_training(cfg, dataset, torch.device("cpu"), 2, tmp_path)
        step(run, collate([dataset[(0, 0)], dataset[(0, 1)]]))
        weights.append(
            torch.cat(
                [parameter.detach().flatten() for parameter in run.state.network.parameters()]
            )
        )
    start = torch.cat([parameter.detach().flatten() for parameter in seeded(cfg).parameters()])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert (weights[0] != start).any()


def seeded(cfg: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(cfg, COCO)


def test_gpu_stage_without_a_gpu_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match="torch sees no CUDA device"):
        rows_of(gpu)
