"""From images to people: the network on every test size, plain and mirrored, merged, decoded, back in the image's frame."""

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
from duopose.decode.decoder import Decoder
from duopose.decode.merge_passes import Pass
from duopose.geometry import InputFrame
from duopose.inference.preprocess import InputRule, PreparedImage, prepare_image
from duopose.inference.protocol import scales_and_flip
from duopose.inference.timing import StageTimes
from duopose.runtime import AUTOCAST_DTYPES, autocast
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, NetworkOutput, PoseMaps, Poses


@dataclass(frozen=True)
class Predictor:
    """All that turns images into people; `from_config` wires it."""

    network: nn.Module
    merger: Callable[[Sequence[Pass], InputFrame], PoseMaps]
    decoder: Decoder
    rule: InputRule
    flip: bool
    device: torch.device
    half: torch.dtype | None = None  # mixed precision of the network

    @staticmethod
    def from_config(
        cfg: CfgNode, network: nn.Module, skeleton: Skeleton, device: torch.device
    ) -> Predictor:
        """The predictor of TEST.*; the network is put into evaluation mode."""
        scales, flip = scales_and_flip(cfg)
        half = AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else None
        rule = InputRule(
            cfg.DATASET.INPUT_SIZE,
            scales,
            legacy_alignment=cfg.DATASET.HEATMAP_CENTRES == "rounded",
        )
        merger, decoder = build_merger(cfg, skeleton), build_decoder(cfg, skeleton)
        return Predictor(network.to(device).eval(), merger, decoder, rule, flip, device, half)

    def __call__(self, image: np.ndarray) -> Poses:
        """The people of one image, (H, W, 3) uint8 RGB, in its own pixels."""
        prepared = prepare_image(image, 0, self.rule)
        return self.decode(prepared, self.run([prepared])[0]).poses

    @torch.inference_mode()
    def run(self, images: Sequence[PreparedImage]) -> list[list[Pass]]:
        """The network's passes for images whose inputs have the same sizes: per image a list over scales and flips."""
        passes: list[list[Pass]] = [[] for _ in images]
        for index in range(len(self.rule.scales)):
            inputs = normalise(
                torch.from_numpy(np.stack([one.inputs[index] for one in images])).to(self.device)
            )
            for mirrored in (False, True) if self.flip else (False,):
                with autocast(self.device, self.half):
                    output = self.network(inputs.flip(-1) if mirrored else inputs)
                for number, image in enumerate(images):
                    frame = self.rule.frames(image.width, image.height)[index]
                    passes[number].append(Pass(_one(output, number), frame, mirrored))
        return passes

    @torch.inference_mode()
    def decode(
        self, image: PreparedImage, passes: Sequence[Pass], times: StageTimes | None = None
    ) -> ImageResult:
        """One image's passes to its people, in the image's pixels."""
        times = times or StageTimes()
        merged = self.rule.merged_frame(image.width, image.height)
        with times.stage("merging"):
            maps = self.merger(passes, merged)
        with times.stage("decoding"):
            poses = self.decoder.decode(maps)
            found = poses.keypoints[..., 2:] > 0
            keypoints = np.where(found, merged.affine.inverse().apply(poses.keypoints), 0.0)
        return ImageResult(image.image_id, Poses(keypoints, poses.scores, poses.filled))


def _one(output: NetworkOutput, index: int) -> NetworkOutput:
    """One image of a batch, as a batch of one."""
    pick = slice(index, index + 1)
    heatmaps, offsets = (
        tuple(maps[pick] for maps in group) for group in (output.heatmaps, output.offsets)
    )
    return NetworkOutput(heatmaps, output.tags[pick], offsets)
