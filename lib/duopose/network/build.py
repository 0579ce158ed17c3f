"""From settings to a network: MODEL.BACKBONE names the backbone, MODEL.NAME the method (heads)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.network.blocks import initialize_weights
from duopose.network.exported_file import open_exported
from duopose.network.flat_network import ExportedNetwork
from duopose.network.heads import DoubleEmbeddingHeads, HigherHRNetHeads
from duopose.network.hrnet import HRNet
from duopose.network.pose_net import Backbone, PoseNet
from duopose.network.resnet import ResNet
from duopose.skeletons import Skeleton


def build_network(cfg: CfgNode, skeleton: Skeleton) -> PoseNet:
    """The network of MODEL.* for a skeleton, with random weights, on the CPU.

    Called with images (B, 3, H, W) it returns a `NetworkOutput`. UserError, naming the valid
    values, for an unknown MODEL.BACKBONE, MODEL.NAME or MODEL.UPSAMPLE.
    """
    _check_choice("MODEL.BACKBONE", cfg.MODEL.BACKBONE, BACKBONES)
    _check_choice("MODEL.NAME", cfg.MODEL.NAME, HEADS)

    backbone = BACKBONES[cfg.MODEL.BACKBONE](cfg)
    heads = HEADS[cfg.MODEL.NAME](cfg, skeleton, backbone.out_channels)
    network = PoseNet(backbone, heads)

    if cfg.MODEL.INIT_WEIGHTS:
        initialize_weights(network)
    if cfg.MODEL.CHANNELS_LAST:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def open_exported_network(
    cfg: CfgNode, skeleton: Skeleton, path: str | Path, device: torch.device
) -> ExportedNetwork:
    """The network of a file of tools/export.py; UserError where its maps do not fit MODEL.NAME."""
    has_offsets = cfg.MODEL.NAME == "pose_higher_hrnet_de"
    layout = skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS)
    return open_exported(
        path,
        device,
        num_heatmaps=skeleton.num_keypoints + int(has_offsets),  # with the person centre
        num_offsets=layout.num_channels if has_offsets else 0,
    )


# ---- backbones: adding one takes its own module and an entry here ----


def _hrnet(cfg: CfgNode) -> HRNet:
    modules = cfg.MODEL.MODULES
    if len(modules) != 3:
        raise UserError(f"MODEL.MODULES: {modules} must be three numbers, for stages 2, 3 and 4")

    upsample = cfg.MODEL.UPSAMPLE or UPSAMPLE[cfg.MODEL.NAME]
    _check_choice("MODEL.UPSAMPLE", upsample, UPSAMPLE.values())
    return HRNet(
        cfg.MODEL.WIDTH,
        modules=tuple(modules),
        num_blocks=cfg.MODEL.BLOCKS,
        stem_channels=cfg.MODEL.STEM_CHANNELS,
        upsample=upsample,
        checkpointing=cfg.MODEL.CHECKPOINT_ACTIVATIONS,
    )


def _resnet50(cfg: CfgNode) -> ResNet:
    return ResNet(cfg.MODEL.WIDTH, checkpointing=cfg.MODEL.CHECKPOINT_ACTIVATIONS)


BACKBONES: dict[str, Callable[[CfgNode], Backbone]] = {"hrnet": _hrnet, "resnet50": _resnet50}

# How HRNet's fuse layers upsample, by MODEL.NAME: as in the training of its public weights.
UPSAMPLE = {"pose_higher_hrnet_de": "bilinear", "pose_higher_hrnet": "nearest"}


# ---- heads ----


def _double_embedding(cfg: CfgNode, skeleton: Skeleton, in_channels: int) -> DoubleEmbeddingHeads:
    layout = skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS)
    return DoubleEmbeddingHeads(
        in_channels,
        num_heatmaps=skeleton.num_keypoints + 1,
        num_offsets=layout.num_channels,
        num_blocks=cfg.MODEL.HEAD_BLOCKS,
        deconv_channels=cfg.MODEL.DECONV_CHANNELS or cfg.MODEL.WIDTH,
        num_deconv_blocks=cfg.MODEL.DECONV_BLOCKS,
        has_fine_offsets=cfg.MODEL.FINE_OFFSETS,
        checkpointing=cfg.MODEL.CHECKPOINT_ACTIVATIONS,
    )


def _higher_hrnet(cfg: CfgNode, skeleton: Skeleton, in_channels: int) -> HigherHRNetHeads:
    return HigherHRNetHeads(
        in_channels,
        num_heatmaps=skeleton.num_keypoints,
        deconv_channels=cfg.MODEL.DECONV_CHANNELS or cfg.MODEL.WIDTH,
        num_deconv_blocks=cfg.MODEL.DECONV_BLOCKS,
        checkpointing=cfg.MODEL.CHECKPOINT_ACTIVATIONS,
    )


HeadsBuilder = Callable[[CfgNode, Skeleton, int], nn.Module]
HEADS: dict[str, HeadsBuilder] = {
    "pose_higher_hrnet_de": _double_embedding,
    "pose_higher_hrnet": _higher_hrnet,
}


def _check_choice(key: str, value: str, allowed: Iterable[str]) -> None:
    names = list(allowed)
    if value not in names:
        raise UserError(f"{key}: '{value}' is unknown; use one of {', '.join(names)}")
