"""From the configuration to a network."""

from __future__ import annotations

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.network.blocks import initialize_weights
from duopose.network.pose_net import DoubleEmbeddingNet, HigherHRNet, Sizes
from duopose.skeletons import Skeleton


def build_network(cfg: CfgNode, skeleton: Skeleton) -> nn.Module:
    """The network that MODEL.* and the skeleton describe, with random weights, on the CPU.

    Called on (B, 3, H, W) it gives a `NetworkOutput`. Raises UserError for an unknown MODEL.NAME, naming the valid ones.
    """
    if cfg.MODEL.NAME not in BUILDERS:
        raise UserError(
            f"MODEL.NAME: '{cfg.MODEL.NAME}' is unknown; use one of {', '.join(BUILDERS)}"
        )
    network = BUILDERS[cfg.MODEL.NAME](cfg, skeleton)
    if cfg.MODEL.INIT_WEIGHTS:
        initialize_weights(network)
    return network.to(memory_format=torch.channels_last) if cfg.MODEL.CHANNELS_LAST else network  # type: ignore[call-overload]


def _double_embedding(cfg: CfgNode, skeleton: Skeleton) -> nn.Module:
    num_offsets = skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS).num_channels
    return DoubleEmbeddingNet(
        _sizes(cfg), skeleton.num_keypoints + 1, num_offsets, cfg.MODEL.CHECKPOINT_ACTIVATIONS
    )


def _higher_hrnet(cfg: CfgNode, skeleton: Skeleton) -> nn.Module:
    return HigherHRNet(_sizes(cfg), skeleton.num_keypoints, cfg.MODEL.CHECKPOINT_ACTIVATIONS)


UPSAMPLE = {
    "pose_higher_hrnet_de": "bilinear",
    "pose_higher_hrnet": "nearest",
}  # what the public weights were trained with
BUILDERS = {"pose_higher_hrnet_de": _double_embedding, "pose_higher_hrnet": _higher_hrnet}


def _sizes(cfg: CfgNode) -> Sizes:
    model = cfg.MODEL
    if len(model.MODULES) != 3:
        raise UserError(
            f"MODEL.MODULES: {model.MODULES} must be three numbers, for stages 2, 3 and 4"
        )
    upsample = model.UPSAMPLE or UPSAMPLE[model.NAME]
    if upsample not in UPSAMPLE.values():
        raise UserError(
            f"MODEL.UPSAMPLE: '{upsample}' must be nearest, bilinear, or empty for that of MODEL.NAME's public weights"
        )
    stage2, stage3, stage4 = model.MODULES
    return Sizes(
        width=model.WIDTH,
        modules=(stage2, stage3, stage4),
        blocks=model.BLOCKS,
        stem_channels=model.STEM_CHANNELS,
        deconv_channels=model.DECONV_CHANNELS or model.WIDTH,
        deconv_blocks=model.DECONV_BLOCKS,
        head_blocks=model.HEAD_BLOCKS,
        upsample=upsample,
    )
