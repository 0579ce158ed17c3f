"""From the settings to a function that makes targets of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from yacs.config import CfgNode

from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.targets.heatmaps import render_heatmaps
from duopose.targets.offsets import offset_targets
from duopose.targets.points import on_map, with_centres
from duopose.targets.tags import tag_targets
from duopose.types import STRIDES, Batch, Targets


@dataclass(frozen=True)
class TargetMaker:
    """Makes the targets of a batch, on the device where its keypoints are."""

    sigma: float  # of the Gaussians, in cells
    legacy_alignment: bool  # the public codes' frame: Gaussians on the floored cell
    with_centre: bool
    layout: OffsetLayout | None  # None: no offset targets (the baseline)
    radius: int  # of the offset windows, in cells

    def __call__(self, batch: Batch) -> Targets:
        """Targets at strides 4 and 2; batch.images only tells the size. Mixed precision is switched off: targets are exact."""
        with torch.autocast(batch.keypoints.device.type, enabled=False):
            return self._make(batch)

    def _make(self, batch: Batch) -> Targets:
        keypoints = with_centres(batch.keypoints)
        shown = keypoints if self.with_centre else batch.keypoints
        height, width = batch.images.shape[-2:]
        heatmaps, offsets = [], []
        for stride in STRIDES:
            frame, size = (
                MapFrame(stride, self.legacy_alignment),
                (height // stride, width // stride),
            )
            points = on_map(shown, frame, *size)
            heatmaps.append(render_heatmaps(points, *size, self.sigma))
            if stride == STRIDES[0]:
                tags = tag_targets(points, size[1])
            if self.layout is not None:
                offsets.append(
                    offset_targets(
                        keypoints,
                        on_map(keypoints, frame, *size),
                        self.layout,
                        frame,
                        *size,
                        self.radius,
                    )
                )
        return Targets(
            tuple(heatmaps), tuple(mask.float() for mask in batch.masks), tags, tuple(offsets)
        )


def build_targets(cfg: CfgNode, skeleton: Skeleton) -> TargetMaker:
    """The target maker for MODEL.NAME: Double Embedding has a centre and offsets, the baseline has tags alone."""
    with_offsets = cfg.MODEL.NAME == "pose_higher_hrnet_de"
    return TargetMaker(
        sigma=cfg.DATASET.SIGMA,
        legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        with_centre=with_offsets,
        layout=skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS) if with_offsets else None,
        radius=cfg.DATASET.OFFSET_RADIUS,
    )
