"""From the settings to the loss."""

from __future__ import annotations

import torch
from yacs.config import CfgNode

from duopose.losses.criterion import Loss
from duopose.skeletons import Skeleton


def build_loss(cfg: CfgNode, skeleton: Skeleton) -> Loss:
    """The loss of MODEL.NAME, with the factors and choices of the section LOSS."""
    channel_weight = torch.ones(skeleton.num_keypoints)
    if cfg.MODEL.NAME == "pose_higher_hrnet_de":
        channel_weight = torch.cat([channel_weight, torch.tensor([float(cfg.LOSS.CENTER_WEIGHT)])])
    return Loss(
        heatmap_factors=tuple(cfg.LOSS.HEATMAPS_LOSS_FACTOR),
        channel_weight=channel_weight,
        foreground_weight=cfg.LOSS.FOREGROUND_WEIGHT,
        push_factor=cfg.LOSS.PUSH_LOSS_FACTOR,
        pull_factor=cfg.LOSS.PULL_LOSS_FACTOR,
        push_type=cfg.LOSS.AE_LOSS_TYPE,
        offset_factors=tuple(cfg.LOSS.OFFSETS_LOSS_FACTOR),
        offset_unit=cfg.MODEL.OFFSET_UNIT,
        offset_beta=cfg.LOSS.OFFSETS_BETA,
        whole_map=cfg.LOSS.OFFSETS_AREA == "map",
    )
