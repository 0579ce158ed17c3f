"""Small networks, data and training runs for the checks: the real code at small sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.datasets.dataset import SampleKey
from duopose.decode import Pass, build_decoder, build_merger
from duopose.distributed.context import DistributedContext
from duopose.geometry import InputFrame
from duopose.profiling.decode_stages import synthetic_passes
from duopose.profiling.gpu_stage import build_training
from duopose.profiling.synthetic_data import drawn_dataset, synthetic_batch
from duopose.runtime import configure_torch, seed_everything
from duopose.skeletons import COCO
from duopose.training.loop import train_step
from duopose.training.setup import TrainingRun
from duopose.types import Batch, Poses, Sample

# Widths as in w32, so that cuDNN and cuBLAS choose the kernels of real trainings.
ON_CUDA = (
    "MODEL.WIDTH", 32, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.DECONV_BLOCKS", 1,
    "MODEL.HEAD_BLOCKS", 1, "DATASET.INPUT_SIZE", 256, "TRAIN.IMAGES_PER_GPU", 4,
)  # fmt: skip
ON_CPU = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "DATASET.INPUT_SIZE", 64,
    "TRAIN.IMAGES_PER_GPU", 2,
)  # fmt: skip
COMMON = ("WORKERS", 0, "VERBOSE", False, "TRAIN.VAL_EVERY", 0, "TRAIN.CALIBRATE", False)
NUM_IMAGES = 8  # of the drawn data set
NUM_PEOPLE = 5  # in each image of a batch of noise
BASELINE = ("MODEL.NAME", "pose_higher_hrnet")


def torch_device(name: str) -> torch.device:
    """The device "cuda" with its index, as the tools pick it."""
    return torch.device("cuda", 0) if name == "cuda" else torch.device(name)


def small_config(device: str, *settings: object) -> CfgNode:
    """Settings of a small network on "cuda", of a tiny one on "cpu"; torch is set up for them."""
    sizes = ON_CUDA if device == "cuda" else ON_CPU
    cfg = load_config(None, [*sizes, *COMMON, *settings])
    configure_torch(cfg)
    return cfg


@contextmanager
def small_training(
    device: str, *settings: object, context: DistributedContext | None = None
) -> Iterator[TrainingRun]:
    """A training run on a few drawn images, with the same weights at each call."""
    cfg = small_config(device, *settings)
    context = context or DistributedContext(torch_device(device))
    with TemporaryDirectory(prefix="duopose-check-") as name:
        dataset = drawn_images(cfg.DATASET.INPUT_SIZE)
        seed_everything(cfg.SEED)
        run = build_training(cfg, dataset, context, cfg.TRAIN.IMAGES_PER_GPU, Path(name))
        yield run
        run.train_loader.close()


class DrawnImages:
    """A training data set of a few JPEGs of drawn people, which are there as long as the object."""

    def __init__(self, input_size: int) -> None:
        self.folder = TemporaryDirectory(prefix="duopose-images-")
        self.dataset = drawn_dataset(Path(self.folder.name), NUM_IMAGES, input_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        return self.dataset[key]


@cache
def drawn_images(input_size: int) -> DrawnImages:
    """The drawn images, made once per process, for network inputs of that size in pixels."""
    return DrawnImages(input_size)


def train_steps(run: TrainingRun, count: int) -> None:
    """Steps of the training loop, from the loader; at most one epoch in all."""
    for batches in islice(run.train_loader.steps(epoch=0, seen=run.state.position.seen), count):
        train_step(run, batches)


def noise_batch(cfg: CfgNode, device: torch.device) -> Batch:
    """A batch of noise with keypoints at random positions; the same on every device."""
    size = cfg.DATASET.INPUT_SIZE
    return synthetic_batch(COCO, cfg.TRAIN.IMAGES_PER_GPU, NUM_PEOPLE, size, str(device))


def ideal_passes(
    device: torch.device, num_people: int, size: tuple[int, int]
) -> tuple[list[Pass], InputFrame]:
    """The maps of a perfect network for an input of that size, plain and mirrored; their frame."""
    passes, frame = synthetic_passes(load_config(None), num_people, 0, size)
    moved = [one._replace(output=one.output.map(lambda maps: maps.to(device))) for one in passes]
    return moved, frame


@torch.inference_mode()
def find_people(passes: list[Pass], frame: InputFrame) -> Poses:
    """Merging and decoding with the default settings."""
    cfg = load_config(None)
    maps = build_merger(cfg, COCO)(passes, frame)
    return build_decoder(cfg, COCO).decode(maps)


def weights_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    """Copies of weights and buffers on the CPU, by name."""
    state = run.state.network.state_dict()
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are equal."""
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def relative_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|, in float64."""
    reference = expected.detach().cpu().double()
    difference = found.detach().cpu().double() - reference
    return float(difference.norm() / reference.norm().clamp(min=1e-30))


def all_finite(run: TrainingRun) -> bool:
    """Whether weights, buffers and the optimizer's moments are finite."""
    tensors = list(run.state.network.state_dict().values())
    for moments in run.state.optimizer.state.values():
        tensors += [value for value in moments.values() if isinstance(value, torch.Tensor)]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
