"""From one image to its people: resize, network, merge of the passes, decoding.

    image (H, W, 3) uint8 RGB
      -> one network input per test scale                       InputTransform, prepare_image
      -> network outputs, plain and mirrored                    Predictor.forward
      -> heatmaps averaged, tags and offsets gathered           decode.merge_passes
      -> people in the merged input frame, then in the image    Predictor.decode

A batch holds images whose network inputs have the same size (`group_by_key`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.datasets.transforms import normalise
from duopose.decode import build_decoder
from duopose.decode.build import build_merger
from duopose.decode.calibration import Calibration
from duopose.decode.decoder import Decoder
from duopose.decode.merge_passes import Pass
from duopose.device_tensors import send
from duopose.errors import NotFiniteError
from duopose.geometry import InputFrame, resize_for_test
from duopose.image_files import check_aspect, check_side
from duopose.inference.protocol import scales_and_flip
from duopose.runtime import AUTOCAST_DTYPES, autocast, no_cudnn_benchmark
from duopose.skeletons import Skeleton
from duopose.types import ImageResult, NetworkOutput, PoseMaps, Poses

Item = TypeVar("Item")


@dataclass(frozen=True)
class InputTransform:
    """How test images are resized: one network input per test scale."""

    input_size: int  # DATASET.INPUT_SIZE: the short side at scale 1, pixels
    scales: tuple[float, ...] = (1.0,)
    legacy_alignment: bool = False  # HigherHRNet's half-pixel convention (HEATMAP_CENTRES rounded)
    max_aspect: float = 12.0  # LIMITS.ASPECT: long side over short side of an image

    def frames(self, width: int, height: int) -> tuple[InputFrame, ...]:
        """The input frame of each scale, for an image of that size in pixels."""
        smallest = min(self.scales)
        return tuple(self._frame(width, height, scale, smallest) for scale in self.scales)

    def merged_frame(self, width: int, height: int) -> InputFrame:
        """The frame in which the passes are merged: scale 1, even if it is not a test scale."""
        return self._frame(width, height, 1.0, min(1.0, *self.scales))

    def _frame(self, width: int, height: int, scale: float, smallest: float) -> InputFrame:
        return resize_for_test(
            width, height, self.input_size, scale, smallest, self.legacy_alignment
        )


@dataclass(frozen=True)
class PreparedImage:
    """An image as network inputs."""

    image_id: int | str
    width: int  # of the image file, pixels
    height: int
    inputs: tuple[np.ndarray, ...]  # per scale (3, h, w) uint8 RGB

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs; images of a batch have the same."""
        return tuple(one.shape for one in self.inputs)


def prepare_image(
    image: np.ndarray, image_id: int | str, transform: InputTransform
) -> PreparedImage:
    """Resize an image, (H, W, 3) uint8 RGB, for every scale; the padding is black.

    BadSample for a strip longer than `transform.max_aspect`, or larger than OpenCV transforms.
    """
    height, width = image.shape[:2]
    check_side(width, height)
    check_aspect(width, height, transform.max_aspect)
    inputs = []
    for frame in transform.frames(width, height):
        size = (frame.width, frame.height)
        warped = cv2.warpAffine(image, frame.affine.matrix, size, flags=cv2.INTER_LINEAR)
        inputs.append(np.ascontiguousarray(warped.transpose(2, 0, 1)))

    return PreparedImage(image_id, width, height, tuple(inputs))


def group_by_key(
    items: Iterable[Item], key: Callable[[Item], Hashable], batch_size: int
) -> Iterator[list[Item]]:
    """Batches of at most `batch_size` items with equal keys.

    A batch is given as soon as it is full, incomplete ones at the end, so that the items may come
    from a stream.
    """
    incomplete: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        batch = incomplete[key(item)]
        batch.append(item)
        if len(batch) == batch_size:
            yield incomplete.pop(key(item))

    yield from incomplete.values()


class StageTimes:
    """Wall time by stage name; several threads may measure different stages at once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.num_images = 0  # that the seconds are of; counted by the caller

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def milliseconds(self, num_images: int) -> dict[str, float]:
        """Milliseconds per image, by stage."""
        count = max(num_images, 1)
        return {name: 1000 * seconds / count for name, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Predictor:
    """A network with everything between an image and its people; `from_config` builds it."""

    network: nn.Module
    merge: Callable[[Sequence[Pass], InputFrame], PoseMaps]
    decoder: Decoder
    transform: InputTransform
    flip_test: bool  # run every scale mirrored, too
    device: torch.device
    autocast_dtype: torch.dtype | None = None  # mixed precision of the network; None: float32

    @staticmethod
    def from_config(
        cfg: CfgNode,
        network: nn.Module,
        skeleton: Skeleton,
        device: torch.device,
        calibration: Calibration | None = None,
    ) -> Predictor:
        """The predictor of the TEST settings.

        The network is moved to `device` and put into evaluation mode. calibration: of this network.
        """
        scales, flip_test = scales_and_flip(cfg)
        if calibration is not None:
            calibration = calibration.for_num_tags(2 if flip_test else 1)
        legacy_alignment = cfg.DATASET.HEATMAP_CENTRES == "rounded"
        return Predictor(
            network=network.to(device).eval(),
            merge=build_merger(cfg, skeleton),
            decoder=build_decoder(cfg, skeleton, calibration),
            transform=InputTransform(
                cfg.DATASET.INPUT_SIZE, scales, legacy_alignment, cfg.LIMITS.ASPECT
            ),
            flip_test=flip_test,
            device=device,
            autocast_dtype=AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else None,
        )

    def __call__(self, image: np.ndarray) -> Poses:
        """The people of one image, (H, W, 3) uint8 RGB, in the image frame."""
        prepared = prepare_image(image, 0, self.transform)
        passes = self.forward([prepared])[0]
        return self.decode(prepared, passes).poses

    @torch.inference_mode()
    def forward(self, batch: Sequence[PreparedImage]) -> list[list[Pass]]:
        """The network outputs for images whose inputs have the same sizes.

        Returns one list per image, over scales and flips. On a GPU the mirrored images are the
        second half of the network's batch, and nothing here waits for the GPU.
        """
        frames = [self.transform.frames(image.width, image.height) for image in batch]
        passes: list[list[Pass]] = [[] for _ in batch]
        for scale_index in range(len(self.transform.scales)):
            images = np.stack([image.inputs[scale_index] for image in batch])
            inputs = normalise(send(torch.from_numpy(images), self.device))
            for mirrored, output in enumerate(self._outputs(inputs)):
                for index in range(len(batch)):
                    own_output = _select_image(output, index)
                    own_frame = frames[index][scale_index]
                    passes[index].append(Pass(own_output, own_frame, bool(mirrored)))

        return passes

    def _outputs(self, inputs: torch.Tensor) -> list[NetworkOutput]:
        """The outputs for the inputs and, with the flip test, for their mirrored copies."""
        with no_cudnn_benchmark(), autocast(self.device, self.autocast_dtype):
            if not self.flip_test:
                return [self.network(inputs)]
            if self.device.type == "cpu":  # a batch is not faster there
                return [self.network(inputs), self.network(inputs.flip(-1))]
            both = self.network(torch.cat([inputs, inputs.flip(-1)]))

        number = len(inputs)
        plain = both.map(lambda maps: maps[:number])
        mirrored = both.map(lambda maps: maps[number:])
        return [plain, mirrored]

    @torch.inference_mode()
    def decode(
        self, image: PreparedImage, passes: Sequence[Pass], times: StageTimes | None = None
    ) -> ImageResult:
        """The people of one image, from its passes, in the image frame.

        NotFiniteError, with the id of the image, where the network's outputs are not finite.
        """
        times = times or StageTimes()
        merged_frame = self.transform.merged_frame(image.width, image.height)
        with times.stage("merging"):
            maps = self.merge(passes, merged_frame)

        with times.stage("decoding"):
            try:
                poses = self.decoder.decode(maps)
            except NotFiniteError as error:
                raise NotFiniteError(
                    f"image id {image.image_id}: the network's {error}; the weights are damaged, "
                    "or their training has diverged (TRAIN.LR is too high), or the numbers "
                    "overflow in fp16 (FP16.DTYPE bf16)"
                ) from error
            found = poses.keypoints[..., 2:] > 0
            to_image = merged_frame.affine.inverse()
            keypoints = np.where(found, to_image.apply(poses.keypoints), 0.0)
            sigma = None if poses.sigma is None else poses.sigma * to_image.scale
        return ImageResult(image.image_id, Poses(keypoints, poses.scores, poses.filled, sigma))


def _select_image(output: NetworkOutput, index: int) -> NetworkOutput:
    """One image of a batch, as a batch of one."""
    return output.map(lambda maps: maps[index : index + 1])
