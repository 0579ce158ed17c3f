"""Small networks for the tests."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.network import build_network
from duopose.skeletons import COCO


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_cfg() -> CfgNode:
    """The size of the golden networks: one module a stage, 8 channels."""
    cfg = default_config()
    cfg.MODEL.WIDTH = 8
    cfg.MODEL.MODULES = [1, 1, 1]
    return cfg


@pytest.fixture
def network(tiny_cfg: CfgNode) -> nn.Module:
    """Double Embedding on a tiny HRNet."""
    return build_network(tiny_cfg, COCO)


@pytest.fixture
def resnet_cfg(tiny_cfg: CfgNode) -> CfgNode:
    """Double Embedding on ResNet-50 with small heads."""
    tiny_cfg.MODEL.BACKBONE = "resnet50"
    tiny_cfg.MODEL.HEAD_BLOCKS = 1
    tiny_cfg.MODEL.DECONV_BLOCKS = 1
    return tiny_cfg
