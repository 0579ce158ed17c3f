"""Small random maps, and their decoding: what settings, skeletons and calibrations act on."""

from __future__ import annotations

import math

import numpy as np
import torch
from yacs.config import CfgNode

from duopose.config import offset_strides
from duopose.decode import build_merger
from duopose.decode.build import build_layout
from duopose.decode.decoder import Decoder
from duopose.decode.merge_passes import Pass
from duopose.geometry import resize_for_test
from duopose.skeletons import Skeleton
from duopose.types import NetworkOutput, Poses

SIDE = 64  # pixels of the input
PEAKS = 4  # of each heatmap


def random_outputs(cfg: CfgNode, skeleton: Skeleton, side: int = SIDE) -> NetworkOutput:
    """Maps of a network for one image: a few peaks a heatmap, small tags and offsets."""
    layout = build_layout(cfg, skeleton)
    channels = skeleton.num_keypoints + (1 if layout.num_edges else 0)
    generator = torch.Generator().manual_seed(3)

    def maps(number: int, stride: int, scale: float) -> torch.Tensor:
        cells = max(side // stride, 1)
        return scale * torch.randn(1, number, cells, cells, generator=generator)

    heatmaps = []
    for stride in (4, 2):
        noise = maps(channels, stride, 1.0)
        heatmaps.append(torch.where(noise > 2.5, noise / 4, noise.abs() / 100))
    strides = offset_strides(cfg) if layout.num_edges else ()
    offsets = tuple(maps(2 * layout.num_edges, stride, 0.01) for stride in strides)
    return NetworkOutput((heatmaps[0], heatmaps[1]), maps(channels, 4, 1.0), offsets)


def decode_small(decoder: Decoder, cfg: CfgNode, skeleton: Skeleton) -> Poses:
    """The people in such maps, plain and mirrored; all that comes out must be finite."""
    frame = resize_for_test(SIDE, SIDE, SIDE, 1.0, 1.0)
    outputs = random_outputs(cfg, skeleton)
    passes = [Pass(outputs, frame, is_mirrored) for is_mirrored in (False, True)]
    poses = decoder.decode(build_merger(cfg, skeleton)(passes, frame))

    assert np.isfinite(poses.keypoints).all() and np.isfinite(poses.scores).all()
    assert poses.sigma is None or np.isfinite(poses.sigma).all()
    assert math.isfinite(float(poses.scores.sum()))
    return poses
