"""How often the host waits for the device in a training step, counted on the pretended device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.devices.pretended_cuda import HostWaits
from tests.devices.runs import build_tiny_run, make_step, next_batch

CPU = torch.device("cpu")
BASELINE = ("MODEL.NAME", "pose_higher_hrnet")
FP16 = ("FP16.ENABLED", True, "FP16.DYNAMIC_LOSS_SCALE", True)

# Before the constants were kept and the targets prepared on the CPU: 6 waits for the baseline, 16
# for Double Embedding.
STEPS: dict[str, tuple[object, ...]] = {
    "baseline": BASELINE,
    "double embedding": (),
    "averaged weights": ("TRAIN.EMA", 0.99),
    "fp16": FP16,
    "bf16": ("FP16.ENABLED", True, "FP16.DTYPE", "bf16"),
    "clipped": ("TRAIN.CLIP_GRAD_NORM", 1.0),
    "two batches": ("TRAIN.ACCUMULATE", 2),
    "whole map": ("LOSS.OFFSETS_AREA", "map"),
    "rounded centres": ("DATASET.HEATMAP_CENTRES", "rounded"),
    "no reverse offsets": ("MODEL.REVERSE_OFFSETS", False, "TRAIN.OPTIMIZER", "adamw"),
    "recomputed": ("MODEL.CHECKPOINT_ACTIVATIONS", True, "TRAIN.OPTIMIZER", "sgd"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_does_not_wait(name: str, host_waits: HostWaits, tmp_path: Path) -> None:
    run = build_tiny_run(tmp_path, *STEPS[name])
    make_step(run, 0)  # makes the constants

    host_waits.clear()
    make_step(run, 1)
    assert host_waits.count == 0, host_waits.table()
    assert host_waits.mixed_lists == 0  # a GPU copies such a list tensor by tensor

    # The check that the loss is finite waits for the forward pass, while the backward pass is
    # queued; the CPU sleeps meanwhile.
    assert host_waits.events == [True] * run.cfg.TRAIN.ACCUMULATE


# Operations of targets and losses that a GPU launches; before, these were 376 and 194.
KERNELS = {"double embedding": 241, "baseline": 127}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_targets_and_losses(name: str, host_waits: HostWaits, tmp_path: Path) -> None:
    run = build_tiny_run(tmp_path, *STEPS[name])
    batch = next_batch(run, [(0, 1), (0, 2)])
    output = run.step.forward(batch.images).map(lambda maps: maps.detach().requires_grad_())

    counts = []
    for _ in range(2):  # the first turn makes the constants
        host_waits.clear()
        run.step.criterion(output, run.step.make_targets(batch)).total.backward()
        counts.append(host_waits.kernels)
    assert counts[1] == KERNELS[name]


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
