"""From pictures to people: the network on every test size, plain and mirrored, merged, decoded, back in the picture's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.datasets.transforms import normalise
from duopose.decode import build_decoder
from duopose.decode.build import build_merger
from duopose.decode.merge import Pass
from duopose.decode.pipeline import Decoder
from duopose.engine.device import autocast
from duopose.engine.inputs import InputRule, PreparedPicture, prepare_picture
from duopose.engine.precision import DTYPES
from duopose.engine.protocol import scales_and_flip
from duopose.engine.timing import StageTimes
from duopose.geometry import InputFrame
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, NetworkOutput, PoseMaps, Poses


@dataclass(frozen=True)
class Predictor:
    """All that turns pictures into people; `from_config` wires it."""

    network: nn.Module
    merger: Callable[[Sequence[Pass], InputFrame], PoseMaps]
    decoder: Decoder
    rule: InputRule
    flip: bool
    device: torch.device
    half: torch.dtype | None = None  # mixed precision of the network

    @staticmethod
    def from_config(cfg: CfgNode, network: nn.Module, skeleton: Skeleton, device: torch.device) -> Predictor:
        """The predictor of TEST.*; the network is put into evaluation mode."""
        scales, flip = scales_and_flip(cfg)
        half = DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else None
        rule = InputRule(cfg.DATASET.INPUT_SIZE, scales, family=cfg.DATASET.HEATMAP_CENTRES == "rounded")
        merger, decoder = build_merger(cfg, skeleton), build_decoder(cfg, skeleton)
        return Predictor(network.to(device).eval(), merger, decoder, rule, flip, device, half)

    def __call__(self, image: np.ndarray) -> Poses:
        """The people of one picture, (H, W, 3) uint8 RGB, in its own pixels."""
        picture = prepare_picture(image, 0, self.rule)
        return self.decode(picture, self.run([picture])[0]).poses

    @torch.inference_mode()
    def run(self, pictures: Sequence[PreparedPicture]) -> list[list[Pass]]:
        """The network's passes for pictures whose inputs have the same sizes: per picture a list over scales and flips."""
        passes: list[list[Pass]] = [[] for _ in pictures]
        for index in range(len(self.rule.scales)):
            inputs = normalise(torch.from_numpy(np.stack([one.inputs[index] for one in pictures])).to(self.device))
            for mirrored in (False, True) if self.flip else (False,):
                with autocast(self.device, self.half):
                    output = self.network(inputs.flip(-1) if mirrored else inputs)
                for number, picture in enumerate(pictures):
                    frame = self.rule.frames(picture.width, picture.height)[index]
                    passes[number].append(Pass(_one(output, number), frame, mirrored))
        return passes

    @torch.inference_mode()
    def decode(self, picture: PreparedPicture, passes: Sequence[Pass], times: StageTimes | None = None) -> ImageResult:
        """One picture's passes to its people, in the picture's pixels."""
        times = times or StageTimes()
        merged = self.rule.merged_frame(picture.width, picture.height)
        with times.stage("merging"):
            maps = self.merger(passes, merged)
        with times.stage("decoding"):
            poses = self.decoder.decode(maps)
            found = poses.keypoints[..., 2:] > 0
            keypoints = np.where(found, merged.affine.inverse().apply(poses.keypoints), 0.0)
        return ImageResult(picture.image_id, Poses(keypoints, poses.scores, poses.filled))


def _one(output: NetworkOutput, index: int) -> NetworkOutput:
    """One picture of a batch, as a batch of one."""
    pick = slice(index, index + 1)
    heatmaps, offsets = (tuple(maps[pick] for maps in group) for group in (output.heatmaps, output.offsets))
    return NetworkOutput(heatmaps, output.tags[pick], offsets)
