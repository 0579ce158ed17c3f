"""All losses of a step by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from duopose.losses.heatmap_loss import heatmap_loss
from duopose.losses.offset_loss import dense_offsets, whole_map_offset_loss, window_offset_loss
from duopose.losses.tag_loss import tag_losses
from duopose.types import STRIDES, LossTerms, NetworkOutput, OffsetTargets, Targets


@dataclass(frozen=True)
class Loss:
    """The weighted sum of heatmap, tag and offset losses; see `docs/targets_and_losses.md`.

    Terms: heatmap_4, heatmap_2, push, pull and, for Double Embedding, offset_4, offset_2.
    """

    heatmap_factors: tuple[float, float]  # per STRIDES
    channel_weight: torch.Tensor  # (J,) of the heatmap channels within the heatmap loss
    push_factor: float
    pull_factor: float
    push_type: str  # a key of `tags.PUSH`
    foreground_weight: float
    offset_factors: tuple[float, float]  # per STRIDES
    offset_unit: float  # input pixels
    offset_beta: float  # in offset_unit
    whole_map: bool  # offsets over the whole map, the public way

    def __call__(self, output: NetworkOutput, targets: Targets) -> LossTerms:
        """The terms of a batch, in float32 whatever the network computed in; no wait for the device."""
        with torch.autocast(output.tags.device.type, enabled=False):
            weighted = self._weighted(output, targets)
        total = torch.stack(list(weighted.values())).sum(dim=0).mean()
        return LossTerms(total, {name: term.detach() for name, term in weighted.items()})

    def _weighted(self, output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        terms = {}
        channel_weight = self.channel_weight.to(output.tags.device, non_blocking=True)
        for stride, factor, maps, target, mask in zip(
            STRIDES, self.heatmap_factors, output.heatmaps, targets.heatmaps, targets.masks
        ):
            loss = heatmap_loss(maps.float(), target, mask, channel_weight, self.foreground_weight)
            terms[f"heatmap_{stride}"] = factor * loss
        push, pull = tag_losses(output.tags.float(), targets.tags, self.push_type)
        terms |= {"push": self.push_factor * push, "pull": self.pull_factor * pull}
        for stride, factor, maps, offsets, mask in zip(
            STRIDES, self.offset_factors, output.offsets, targets.offsets, targets.masks
        ):
            terms[f"offset_{stride}"] = factor * self._offset_loss(maps.float(), offsets, mask)
        return terms

    def _offset_loss(
        self, prediction: torch.Tensor, targets: OffsetTargets, mask: torch.Tensor
    ) -> torch.Tensor:
        if not self.whole_map:
            return window_offset_loss(prediction, targets, self.offset_unit, self.offset_beta)
        dense = dense_offsets(targets, prediction.shape) / self.offset_unit
        return whole_map_offset_loss(prediction, dense, mask, self.offset_beta)
