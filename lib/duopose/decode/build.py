"""Builds the decoder and the merger from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from yacs.config import CfgNode

from duopose.config.build import decoder_values
from duopose.decode.associative_embedding import TagGrouper
from duopose.decode.calibration import Calibration
from duopose.decode.decoder import Decoder, PeakGrouper
from duopose.decode.decoder_settings import DecoderSettings
from duopose.decode.grouping import Grouper
from duopose.decode.merge_passes import Pass, merge_passes
from duopose.errors import UserError
from duopose.geometry import InputFrame
from duopose.skeletons import OffsetLayout, Skeleton
from duopose.types import PoseMaps

NO_INDICES = np.zeros(0, np.int64)
NO_OFFSETS = OffsetLayout(NO_INDICES, NO_INDICES, NO_INDICES, num_forward=0)


def build_decoder(
    cfg: CfgNode, skeleton: Skeleton, calibration: Calibration | None = None
) -> Decoder:
    """The decoder of MODEL.NAME: Double Embedding, or the baseline, which groups by tags alone.

    calibration: of the network; not used where TEST.CALIBRATION is off.
    """
    layout = build_layout(cfg, skeleton)
    settings = decoder_settings(cfg)
    if cfg.TEST.CALIBRATION == "auto":
        _check_calibration(calibration, skeleton)
        settings = settings.with_calibration(calibration)
    grouper: PeakGrouper = TagGrouper(skeleton, settings)
    if layout.num_edges:
        grouper = Grouper(skeleton, layout, settings)
    return Decoder(skeleton, layout, grouper, settings)


def _check_calibration(calibration: Calibration | None, skeleton: Skeleton) -> None:
    """UserError where it is of another skeleton."""
    if calibration is None:
        return
    num_joints = len(calibration.joint_distance)
    if num_joints != skeleton.num_keypoints:
        raise UserError(
            f"the calibration is of {num_joints} keypoints, the skeleton '{skeleton.name}' has "
            f"{skeleton.num_keypoints}; repeat tools/calibrate.py, or set TEST.CALIBRATION off"
        )


def build_layout(cfg: CfgNode, skeleton: Skeleton) -> OffsetLayout:
    """The edges of the offset maps of MODEL.NAME; the baseline has none."""
    layouts = {
        "pose_higher_hrnet_de": skeleton.offset_layout(cfg.MODEL.REVERSE_OFFSETS),
        "pose_higher_hrnet": NO_OFFSETS,
    }
    if cfg.MODEL.NAME not in layouts:
        raise UserError(
            f"MODEL.NAME '{cfg.MODEL.NAME}' has no decoder; use one of {', '.join(layouts)}"
        )
    return layouts[cfg.MODEL.NAME]


def build_merger(
    cfg: CfgNode, skeleton: Skeleton
) -> Callable[[Sequence[Pass], InputFrame], PoseMaps]:
    """`merge_passes` with its settings: merger(passes, merged input frame) -> maps to decode."""
    layout = build_layout(cfg, skeleton)
    return partial(
        merge_passes,
        skeleton=skeleton,
        layout=layout if layout.num_edges else None,
        offset_unit=cfg.MODEL.OFFSET_UNIT,
        legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
    )


def decoder_settings(cfg: CfgNode) -> DecoderSettings:
    """The decoder's settings in cfg.TEST, after applying TEST.PRESET."""
    settings = DecoderSettings(**decoder_values(cfg))
    if cfg.TEST.PRESET == "clean":
        return replace(settings, fill=False, duplicate_score_factor=0.0)
    return replace(settings, person_threshold=0.0)
