"""Shares of the gradient at the shared features: by hand, and without an effect on training."""

from __future__ import annotations

import pytest
import torch
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.network.pose_net import PoseNet
from duopose.profiling.synthetic_data import synthetic_batch
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.training.gradient_norms import GradientNorms, gradient_norms


@pytest.fixture
def tiny_cfg() -> CfgNode:
    cfg = default_config()
    cfg.MODEL.WIDTH = 8
    cfg.MODEL.MODULES = [1, 1, 1]
    return cfg


def normalise(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


def measure(cfg: CfgNode, network: PoseNet) -> GradientNorms:
    batch = synthetic_batch(COCO, num_images=2, people=2, size=64)
    return gradient_norms(
        network, build_criterion(cfg, COCO), build_targets(cfg, COCO), normalise, batch
    )


def test_shares_sum_to_one_and_follow_the_weights(tiny_cfg: CfgNode) -> None:
    network = build_network(tiny_cfg, COCO).train()
    before = measure(tiny_cfg, network)
    assert list(before.share) == ["heatmap_4", "heatmap_2", "push", "pull", "offset_4", "offset_2"]
    assert sum(before.share.values()) == pytest.approx(1)

    tiny_cfg.LOSS.OFFSETS_LOSS_FACTOR = [factor * 3 for factor in tiny_cfg.LOSS.OFFSETS_LOSS_FACTOR]
    after = measure(tiny_cfg, network)
    ratio = before.share["offset_4"] / before.share["heatmap_4"]
    assert after.share["offset_4"] / after.share["heatmap_4"] == pytest.approx(3 * ratio, rel=1e-4)
    assert after.cosine == pytest.approx(before.cosine, abs=1e-5)


def test_the_cosine_of_a_single_heatmap_term_is_one(tiny_cfg: CfgNode) -> None:
    tiny_cfg.LOSS.HEATMAPS_LOSS_FACTOR = [1.0, 0.0]
    norms = measure(tiny_cfg, build_network(tiny_cfg, COCO).train())
    assert norms.cosine["heatmap_4"] == pytest.approx(1)
    assert norms.share["heatmap_2"] == norms.cosine["heatmap_2"] == 0


def test_the_network_is_as_before(tiny_cfg: CfgNode) -> None:
    network = build_network(tiny_cfg, COCO).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(tiny_cfg, network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all(layer.track_running_stats for layer in layers)
