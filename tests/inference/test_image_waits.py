"""How often the host waits for the device per image, counted on the pretended device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits
from tests.devices.runs import noisy_images, tiny_predictor
from torch import nn

from duopose.inference.predict_dataset import own_stream, wait_for_network
from duopose.types import NetworkOutput

# Before: 3 waits of a forward pass and 52 of the decoding with the flip test, 120 at three scales.
IMAGES: dict[str, tuple[object, ...]] = {
    "flip": (),
    "single": ("TEST.FLIP_TEST", False),
    "multiscale": ("TEST.SCALE_FACTOR", [0.5, 1.0, 2.0]),
    "baseline": ("MODEL.NAME", "pose_higher_hrnet"),
    "no sub-pixel": ("TEST.SUBPIXEL", False),
}


@pytest.mark.parametrize("name", IMAGES)
def test_waits_of_an_image(name: str, host_waits: HostWaits) -> None:
    settings = IMAGES[name]
    predictor = tiny_predictor(DEVICE, *settings)
    (image,) = noisy_images(predictor, 1)
    predictor.decode(image, predictor.forward([image])[0])  # makes the constants

    host_waits.clear()
    (passes,) = predictor.forward([image])
    assert host_waits.count == 0, host_waits.table()

    host_waits.clear()
    poses = predictor.decode(image, passes).poses
    assert host_waits.count <= 2, host_waits.table()  # the peaks; what is read at them

    expected = tiny_predictor(torch.device("cpu"), *settings)
    on_cpu = expected.decode(image, expected.forward([image])[0]).poses
    assert len(poses.scores) == len(on_cpu.scores) > 10
    # Not in bits: on a GPU the mirrored image is in the same batch.
    np.testing.assert_allclose(poses.keypoints, on_cpu.keypoints, atol=1e-3)


class CallRecord(nn.Module):
    """Passes inputs on and records their number, and whether cuDNN may time its kernels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, bool]] = []

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        self.calls.append((len(images), torch.backends.cudnn.benchmark))
        output: NetworkOutput = self.network(images)
        return output


@pytest.mark.parametrize(("device", "expected"), [("cuda", [4]), ("cpu", [2, 2])])
def test_mirrored_images_are_the_second_half_of_a_batch_on_a_gpu(
    device: str, expected: list[int], host_waits: HostWaits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    predictor = tiny_predictor(torch.device(device))
    record = CallRecord(predictor.network)
    images = noisy_images(predictor, 2)
    passes = replace(predictor, network=record).forward(images)
    assert record.calls == [(number, False) for number in expected]
    assert torch.backends.cudnn.benchmark

    for image, own_passes in zip(images, passes, strict=True):
        assert [one.mirrored for one in own_passes] == [False, True]
        alone = predictor.forward([image])[0]
        for one, other in zip(own_passes, alone, strict=True):
            torch.testing.assert_close(one.output.tags.cpu(), other.output.tags.cpu())


def test_waiting_for_the_network_leaves_the_cpu_free(host_waits: HostWaits) -> None:
    wait_for_network(DEVICE)
    wait_for_network(torch.device("cpu"))
    assert host_waits.events == [True] and host_waits.count == 0
    for device in (DEVICE, torch.device("cpu")):
        with own_stream(device)():
            pass
