"""From the settings to the loss functions and their weights.

To add a loss term: write its function in a module of this folder, then add it with its weight in
`build_criterion`.
"""

from __future__ import annotations

import torch
from yacs.config import CfgNode

from duopose.device_tensors import constant
from duopose.losses.criterion import Criterion, LossFunction
from duopose.losses.heatmap_loss import heatmap_loss
from duopose.losses.offset_loss import dense_offsets, whole_map_offset_loss, window_offset_loss
from duopose.losses.tag_loss import tag_losses
from duopose.skeletons import Skeleton
from duopose.types import STRIDES, NetworkOutput, Targets


def build_criterion(cfg: CfgNode, skeleton: Skeleton) -> Criterion:
    """The loss of MODEL.NAME, with the weights of the section LOSS.

    Terms: heatmap_4, heatmap_2, push, pull and, for Double Embedding, offset_4 and, with
    MODEL.FINE_OFFSETS, offset_2.
    """
    functions = [_heatmap_function(cfg, skeleton), _tag_function(cfg)]
    weights = {"push": cfg.LOSS.PUSH_LOSS_FACTOR, "pull": cfg.LOSS.PULL_LOSS_FACTOR}
    weights |= _weight_per_stride("heatmap", cfg.LOSS.HEATMAPS_LOSS_FACTOR)

    if _is_double_embedding(cfg):
        functions.append(_offset_function(cfg))
        weights |= _weight_per_stride("offset", cfg.LOSS.OFFSETS_LOSS_FACTOR)
    return Criterion(functions, weights)


def _is_double_embedding(cfg: CfgNode) -> bool:
    return bool(cfg.MODEL.NAME == "pose_higher_hrnet_de")


def _weight_per_stride(term: str, weights: list[float]) -> dict[str, float]:
    return {f"{term}_{stride}": weight for stride, weight in zip(STRIDES, weights, strict=True)}


def _heatmap_function(cfg: CfgNode, skeleton: Skeleton) -> LossFunction:
    """Heatmap loss per stride; the channel of the person centre has a weight of its own."""
    channel_weights = [1.0] * skeleton.num_keypoints
    if _is_double_embedding(cfg):
        channel_weights.append(float(cfg.LOSS.CENTER_WEIGHT))
    foreground_weight = float(cfg.LOSS.FOREGROUND_WEIGHT)

    def heatmap_terms(output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        weight = constant(tuple(channel_weights), torch.float32, output.tags.device)
        levels = zip(STRIDES, output.heatmaps, targets.heatmaps, targets.masks, strict=True)
        return {
            f"heatmap_{stride}": heatmap_loss(maps, target, mask, weight, foreground_weight)
            for stride, maps, target, mask in levels
        }

    return heatmap_terms


def _tag_function(cfg: CfgNode) -> LossFunction:
    """Push and pull of the tags at stride 4."""
    push_type = cfg.LOSS.AE_LOSS_TYPE

    def tag_terms(output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        push, pull = tag_losses(output.tags, targets.tags, push_type)
        return {"push": push, "pull": pull}

    return tag_terms


def _offset_function(cfg: CfgNode) -> LossFunction:
    """Offset loss per stride, in the windows of the joints or over the whole map."""
    unit = float(cfg.MODEL.OFFSET_UNIT)
    beta = float(cfg.LOSS.OFFSETS_BETA)
    use_whole_map = cfg.LOSS.OFFSETS_AREA == "map"

    def offset_terms(output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        terms = {}
        num_levels = len(output.offsets)  # both strides, or stride 4 alone
        strides = STRIDES[:num_levels]
        masks = targets.masks[:num_levels]
        levels = zip(strides, output.offsets, targets.offsets, masks, strict=True)
        for stride, maps, target, mask in levels:
            if use_whole_map:
                dense = dense_offsets(target, maps.shape) / unit
                loss = whole_map_offset_loss(maps, dense, mask, beta)
            else:
                loss = window_offset_loss(maps, target, unit, beta)
            terms[f"offset_{stride}"] = loss
        return terms

    return offset_terms
