"""The same training twice, and a training that is cut off and resumed: the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from yacs.config import CfgNode

from duopose.datasets.dataset import SampleKey
from duopose.datasets.loader import KeyedDataset
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.gpu_check.check_runner import Finding
from duopose.gpu_check.small_runs import drawn_images, same_bits, small_config, torch_device
from duopose.network.model_file import read_model_file
from duopose.profiling.gpu_stage import training_components
from duopose.run_folder import RunFolder
from duopose.training.run import Options, run_training
from duopose.training.setup import Components
from duopose.types import Sample

PRECISIONS: dict[str, tuple[object, ...]] = {
    "fp32": (),
    "fp16": ("FP16.ENABLED", True),
    "bf16": ("FP16.ENABLED", True, "FP16.DTYPE", "bf16"),
}
# 8 images, 2 a step: 4 steps an epoch. The training is cut off after step 6; the checkpoint is that
# of step 5.
RUN = (
    "DETERMINISTIC", True, "TRAIN.IMAGES_PER_GPU", 2, "TRAIN.END_EPOCH", 2, "TRAIN.LR_STEP", [1],
    "TRAIN.EMA", 0.9, "TRAIN.CHECKPOINT_EVERY", 5, "PRINT_FREQ", 2,
)  # fmt: skip
CUT_AFTER = 12  # images


class CutDataset:
    """Gives `count` samples, and then an error, as if the process were stopped there."""

    def __init__(self, dataset: KeyedDataset, count: int) -> None:
        self.dataset = dataset
        self.left = count

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        if not self.left:
            raise UserError("cut off")
        self.left -= 1
        return self.dataset[key]


def repeats(device: str) -> Iterator[Finding]:
    """DETERMINISTIC True: the weights of a second and of a resumed training, compared in bits."""
    for precision, settings in PRECISIONS.items():
        with TemporaryDirectory(prefix="duopose-check-") as name:
            folder = Path(name)
            first = _train(device, folder, "first", *settings)
            again = _train(device, folder, "again", *settings)
            yield _compared(f"repeated in bits, {precision}", first, again)

            _train_until_cut(device, folder, "cut", *settings)
            resumed = _train(device, folder, "cut", *settings)
            yield _compared(f"resumed in bits, {precision}", first, resumed)


def _compared(name: str, one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> Finding:
    different = [key for key, tensor in one.items() if not torch.equal(tensor, other[key])]
    figure = f"{len(different)} of {len(one)} tensors differ"
    return Finding(name, same_bits(one, other), figure)


def _train(device: str, folder: Path, run: str, *settings: object) -> dict[str, torch.Tensor]:
    """Train to the end, or go on with what is in the run's folder; the averaged weights."""
    cfg = _settings(device, folder, *settings)
    _run(cfg, drawn_images(cfg.DATASET.INPUT_SIZE), run, device)
    return read_model_file(_folder(cfg, run).model_final).state_dict


def _train_until_cut(device: str, folder: Path, run: str, *settings: object) -> None:
    cfg = _settings(device, folder, *settings)
    dataset = drawn_images(cfg.DATASET.INPUT_SIZE)
    try:
        _run(cfg, CutDataset(dataset, CUT_AFTER), run, device)
    except UserError:
        if not _folder(cfg, run).checkpoint.is_file():
            raise
    else:
        raise AssertionError("the training was not cut off")


def _run(cfg: CfgNode, dataset: KeyedDataset, run: str, device: str) -> None:
    def build(cfg: CfgNode, _context: DistributedContext, _folder: RunFolder) -> Components:
        return training_components(cfg, dataset)

    context = DistributedContext(torch_device(device))
    run_training(cfg, Options("check.yaml", name=run), context, build)


def _settings(device: str, folder: Path, *settings: object) -> CfgNode:
    cfg = small_config(device, *RUN, *settings)
    paths = ["OUTPUT_DIR", str(folder / "output"), "LOG_DIR", str(folder / "log")]
    cfg.defrost()
    cfg.merge_from_list([*paths, "AUTO_RESUME", True])
    cfg.freeze()
    return cfg


def _folder(cfg: CfgNode, run: str) -> RunFolder:
    return RunFolder.from_config(cfg, "check.yaml", run)
