"""The networks compute the same maps as the public codes with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from duopose.network import build_network, load_weights
from duopose.skeletons import COCO


def run_golden(
    cfg: CfgNode, folder: Path, name: str
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Our maps and the public ones in the file's order: offsets, heatmaps with tags, heatmaps."""
    network = build_network(cfg, COCO).eval()
    report = load_weights(network, folder / "network" / f"{name}.pth", strict=True)
    assert report.complete
    assert report.matched == len(network.state_dict())
    arrays = np.load(folder / "network" / f"{name}_io.npz")
    with torch.no_grad():
        output = network(torch.from_numpy(arrays["input"]))
    ours = [
        *output.offsets,
        torch.cat([output.heatmaps[0], output.tags], dim=1),
        output.heatmaps[1],
    ]
    return ours, [torch.from_numpy(arrays[f"out{i}"]) for i in range(len(ours))]


@pytest.mark.parametrize("channels_last", [False, True])
def test_public_double_embedding(tiny_cfg: CfgNode, golden: Path, channels_last: bool) -> None:
    tiny_cfg.MODEL.CHANNELS_LAST = channels_last
    ours, public = run_golden(tiny_cfg, golden, "public_de_tiny")
    assert len(ours) == 4
    torch.testing.assert_close(ours, public, atol=1e-5, rtol=0)


def test_higher_hrnet(tiny_cfg: CfgNode, golden: Path) -> None:
    tiny_cfg.MODEL.NAME = "pose_higher_hrnet"
    ours, public = run_golden(tiny_cfg, golden, "higher_hrnet_tiny")
    assert len(ours) == 2
    torch.testing.assert_close(ours, public, atol=1e-5, rtol=0)


def test_the_two_codes_upsample_coarse_branches_differently(
    tiny_cfg: CfgNode, golden: Path
) -> None:
    tiny_cfg.MODEL.UPSAMPLE = "nearest"
    ours, public = run_golden(tiny_cfg, golden, "public_de_tiny")
    assert (ours[0] - public[0]).abs().max() > 0.01
