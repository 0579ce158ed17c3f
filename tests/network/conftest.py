"""Small networks for the tests."""

from __future__ import annotations

import pytest
import torch
from yacs.config import CfgNode

from duopose.config import default_config


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
