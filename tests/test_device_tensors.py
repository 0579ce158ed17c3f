"""Constants of a device are made once, and can be used in inference and in training."""

from __future__ import annotations

import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits

from duopose.device_tensors import constant, send

CPU = torch.device("cpu")


def test_a_constant_is_made_once_per_device_and_type(host_waits: HostWaits) -> None:
    found = [constant((1.0, 2.0), torch.float32, DEVICE) for _ in range(2)]
    assert found[0] is found[1] and found[0].is_cuda
    assert host_waits.count == 1
    assert constant((1.0, 2.0), torch.int64, DEVICE).tolist() == [1, 2]
    assert not constant((1.0, 2.0), torch.float32, CPU).is_cuda


def test_a_constant_made_in_inference_serves_a_backward_pass() -> None:
    constant.cache_clear()
    with torch.inference_mode():
        constant((3.0,), torch.float32, CPU)
    weight = torch.ones(1, requires_grad=True)
    (weight * constant((3.0,), torch.float32, CPU)).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [3.0]


def test_sending_does_not_wait(host_waits: HostWaits) -> None:
    values = torch.arange(3)
    assert send(values, CPU) is values
    sent = send(values, DEVICE)
    assert sent.is_cuda and host_waits.count == 0
    assert sent.tolist() == [0, 1, 2]
