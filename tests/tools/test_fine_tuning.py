"""Every command of docs/fine_tuning.md, with few images and steps, from a demo-like network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.tools.conftest import PROJECT

RUNS = Path("output/coco/pose_higher_hrnet_de")
FEW_STEPS = ["TRAIN.END_STEP", "2", "GPUS", "1", "THREADS", "1", "WORKERS", "0", "DEVICE", "cpu",
             "TRAIN.CALIBRATE", "False", "TRAIN.VAL_EVERY", "0", "TRAIN.WARMUP", "0"]  # fmt: skip


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "lib")}
    ended = subprocess.run(
        [sys.executable, *words], check=False, cwd=folder, env=environment,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    for name in ("tools", "docs", "experiments"):
        (tmp_path / name).symlink_to(PROJECT / name)
    sample = ["tools/make_sample_data.py", "data/sample", "--train", "16", "--val", "4"]
    run(tmp_path, *sample)
    run(tmp_path, "tools/dist_train.py", "--cfg", "experiments/sample/demo.yaml", *FEW_STEPS)
    demo = tmp_path / RUNS / "demo"
    (demo / "model_final.pth").rename(demo / "model_best.pth")

    page = (PROJECT / "docs" / "fine_tuning.md").read_text().splitlines()
    commands = [line.split()[1:] for line in page if line.startswith("    python ")]
    outputs = [run(tmp_path, *few(words)) for words in commands]

    tools = [Path(words[0]).stem for words in commands]
    assert tools == ["make_sample_data", "check_data", "dist_train", "valid", "frozen_backbone"]
    assert "419/426 tensors" in outputs[2] and "global_head 5, local_head 2" in outputs[2]
    weights = read(demo / "model_best.pth")
    assert changed(weights, read(tmp_path / RUNS / "six_from_demo" / "model_final.pth"))
    assert not changed(weights, read(tmp_path / RUNS / "six_frozen" / "model_final.pth"))


def few(words: list[str]) -> list[str]:
    """The command with few images or steps; scores need no training."""
    if "make_sample_data" in words[0]:
        return [{"2000": "16", "100": "4"}.get(word, word) for word in words]
    if "valid" in words[0]:
        model = words[-1].replace("model_best", "model_final")  # without validation none is best
        return [*words[:-1], model, "DEVICE", "cpu"]
    return words if "check_data" in words[0] else [*words, *FEW_STEPS]


def read(path: Path) -> dict[str, torch.Tensor]:
    """The weights of the backbone, without statistics."""
    content = torch.load(path, weights_only=True)
    state = content.get("state_dict", content.get("network", content))
    names = [name for name in state if name.startswith("backbone.")]
    assert len(names) > 100
    return {name: state[name] for name in names if name.endswith(("weight", "bias"))}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]
