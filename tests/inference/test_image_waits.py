"""How often the host waits for the device per image, counted on the pretended device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits
from tests.devices.runs import noisy_images, tiny_predictor

# Settings, and the largest numbers of waits of a forward pass and of the decoding of an image.
IMAGES: dict[str, tuple[tuple[object, ...], int, int]] = {
    "flip": ((), 3, 52),
    "single": (("TEST.FLIP_TEST", False), 3, 30),
    "multiscale": (("TEST.SCALE_FACTOR", [0.5, 1.0, 2.0]), 9, 120),
    "baseline": (("MODEL.NAME", "pose_higher_hrnet"), 3, 36),
    "no sub-pixel": (("TEST.SUBPIXEL", False), 3, 36),
}


@pytest.mark.parametrize("name", IMAGES)
def test_waits_of_an_image(name: str, host_waits: HostWaits) -> None:
    settings, forward_limit, decode_limit = IMAGES[name]
    predictor = tiny_predictor(DEVICE, *settings)
    (image,) = noisy_images(predictor, 1)
    predictor.forward([image])  # makes the constants

    host_waits.clear()
    (passes,) = predictor.forward([image])
    assert host_waits.count <= forward_limit, host_waits.table()

    host_waits.clear()
    poses = predictor.decode(image, passes).poses
    assert host_waits.count <= decode_limit, host_waits.table()

    expected = tiny_predictor(torch.device("cpu"), *settings)
    on_cpu = expected.decode(image, expected.forward([image])[0]).poses
    assert len(poses.scores) == len(on_cpu.scores) > 10
    # Rows of people of equal score may be exchanged: the sums over the passes have another order.
    np.testing.assert_allclose(poses.keypoints, on_cpu.keypoints, atol=1e-5)
