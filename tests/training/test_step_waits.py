"""How often the host waits for the device in a training step, counted on the pretended device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.devices.pretended_cuda import HostWaits
from tests.devices.runs import build_tiny_run, make_step

CPU = torch.device("cpu")
BASELINE = ("MODEL.NAME", "pose_higher_hrnet")
FP16 = ("FP16.ENABLED", True, "FP16.DYNAMIC_LOSS_SCALE", True)

# Settings and the largest number of waits of a step between two log lines.
STEPS: dict[str, tuple[tuple[object, ...], int]] = {
    "baseline": (BASELINE, 6),
    "double embedding": ((), 16),
    "averaged weights": (("TRAIN.EMA", 0.99), 16),
    "fp16": (FP16, 16),
    "bf16": (("FP16.ENABLED", True, "FP16.DTYPE", "bf16"), 16),
    "clipped": (("TRAIN.CLIP_GRAD_NORM", 1.0), 16),
    "two batches": (("TRAIN.ACCUMULATE", 2), 32),
    "whole map": (("LOSS.OFFSETS_AREA", "map"), 16),
    "rounded centres": (("DATASET.HEATMAP_CENTRES", "rounded"), 16),
    "no reverse offsets": (("MODEL.REVERSE_OFFSETS", False, "TRAIN.OPTIMIZER", "adamw"), 16),
    "recomputed": (("MODEL.CHECKPOINT_ACTIVATIONS", True, "TRAIN.OPTIMIZER", "sgd"), 16),
}


@pytest.mark.parametrize("name", STEPS)
def test_waits_of_a_step(name: str, host_waits: HostWaits, tmp_path: Path) -> None:
    settings, limit = STEPS[name]
    run = build_tiny_run(tmp_path, *settings)
    make_step(run, 0)  # makes the constants

    host_waits.clear()
    make_step(run, 1)
    assert host_waits.count <= limit, host_waits.table()


def test_a_step_on_the_pretended_device_is_that_of_the_cpu(
    host_waits: HostWaits, tmp_path: Path
) -> None:
    weights = []
    for device in ("cuda", "cpu"):
        run = build_tiny_run(tmp_path, "TRAIN.EMA", 0.9, device=torch.device(device))
        for number in range(2):
            make_step(run, number)
        network = run.state.inference_network
        weights.append([tensor.cpu() for tensor in network.state_dict().values()])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
