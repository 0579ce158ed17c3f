"""From the settings to a function that makes the targets of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from yacs.config import CfgNode

from duopose.config import offset_strides
from duopose.device_tensors import send
from duopose.geometry import MapFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.targets.heatmaps import render_heatmaps
from duopose.targets.offsets import find_windows, offset_targets
from duopose.targets.points import append_centres, tag_targets, to_map_points
from duopose.types import STRIDES, Batch, TagTargets, Targets

TAG_STRIDE = STRIDES[0]


@dataclass(frozen=True)
class TargetBuilder:
    """Makes the targets of a batch on the device of its images.

    Where the keypoints lie on the maps is calculated on the CPU, so that their number is known
    there and nothing waits for the device. Heatmaps and windows are then filled in on the device.
    """

    sigma: float  # of the Gaussians, in cells
    legacy_alignment: bool  # HigherHRNet's alignment: Gaussians on the floored cell
    with_centre: bool  # True where there is a layout
    layout: OffsetLayout | None  # None: no offset targets (the baseline)
    offset_strides: tuple[int, ...]  # strides of the offset maps
    radius: int  # of the offset windows, in cells

    def __call__(self, batch: Batch) -> Targets:
        """Targets at strides 4 and 2, in float32 even under mixed precision.

        Of `batch.images` only the size is used.
        """
        with torch.autocast(batch.images.device.type, enabled=False):
            return self._build(batch)

    def _build(self, batch: Batch) -> Targets:
        device = batch.images.device
        keypoints = batch.keypoints.cpu()  # they are there already, `move_to_device` leaves them
        if self.with_centre:
            keypoints = append_centres(keypoints)
        input_height, input_width = batch.images.shape[-2:]

        heatmaps = []
        offsets = []
        for stride in STRIDES:
            frame = MapFrame(stride, self.legacy_alignment)
            height = input_height // stride
            width = input_width // stride

            points = to_map_points(keypoints, frame, height, width)
            heatmaps.append(render_heatmaps(points, height, width, self.sigma, device))
            if stride == TAG_STRIDE:
                cells, valid = tag_targets(points, width)
                tags = TagTargets(send(cells, device), send(valid, device))
            if self.layout is not None and stride in self.offset_strides:
                windows = find_windows(keypoints, points, self.layout, device)
                targets = offset_targets(windows, frame, height, width, self.radius)
                offsets.append(targets)

        masks = tuple(mask.float() for mask in batch.masks)
        return Targets(tuple(heatmaps), masks, tags, tuple(offsets))


def build_targets(cfg: CfgNode, skeleton: Skeleton) -> TargetBuilder:
    """The target builder of MODEL.NAME.

    Double Embedding has a person centre and offsets; the baseline has tags alone.
    """
    is_double_embedding = cfg.MODEL.NAME == "pose_higher_hrnet_de"
    layout = skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS) if is_double_embedding else None
    return TargetBuilder(
        sigma=cfg.DATASET.SIGMA,
        legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        with_centre=is_double_embedding,
        layout=layout,
        offset_strides=offset_strides(cfg),
        radius=cfg.DATASET.OFFSET_RADIUS,
    )
