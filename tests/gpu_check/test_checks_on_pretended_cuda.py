"""The checks of `tools/gpu_check.py` for "cuda", on a pretended device and at tiny sizes.

They show that a check does not fail by itself, and that it does where something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tests.devices.pretended_cuda import HostWaits

from duopose.gpu_check import cpu_agreement, small_runs, synchronising_lines
from duopose.gpu_check.check_runner import Finding
from duopose.training.step import TrainingStep
from duopose.types import Batch, LossTerms

CHECKS: dict[str, Callable[[str], Iterator[Finding]]] = {
    "targets": cpu_agreement.targets,
    "losses": cpu_agreement.losses_and_gradients,
    "step waits": synchronising_lines.step_waits,
    "image waits": synchronising_lines.image_waits,
}


@pytest.fixture
def tiny(host_waits: HostWaits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny sizes, and a part of the settings; tests/training counts the waits of all of them."""
    monkeypatch.setattr(small_runs, "ON_CUDA", small_runs.ON_CPU)
    monkeypatch.setattr(synchronising_lines, "DECODED_SIZE", (256, 384))
    monkeypatch.setattr(cpu_agreement, "LOSSES", {"fp16": cpu_agreement.LOSSES["fp16"]})
    steps = {"fp16": synchronising_lines.STEPS["fp16"]}
    monkeypatch.setattr(synchronising_lines, "STEPS", steps)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes(name: str) -> None:
    findings = list(CHECKS[name]("cuda"))
    assert findings
    for finding in findings:
        assert finding.passed, finding


@pytest.mark.usefixtures("tiny")
def test_a_step_that_waits_fails_its_check_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_losses = TrainingStep.compute_losses

    def with_wait(step: TrainingStep, batch: Batch) -> LossTerms:
        terms = compute_losses(step, batch)
        assert torch.isfinite(terms.total)
        return terms

    monkeypatch.setattr(TrainingStep, "compute_losses", with_wait)
    planted, step = synchronising_lines.step_waits("cuda")
    assert planted.passed
    assert not step.passed and "training/step.py" in step.figure
