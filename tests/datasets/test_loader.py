"""Batches do not depend on the workers, are small, and errors name the image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from duopose.benchmarks import BENCHMARKS
from duopose.config import load_config
from duopose.datasets import build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import BatchLoader, collate, make_data_loader
from duopose.datasets.workers import prepare_worker
from duopose.distributed.launch import explain_error
from duopose.errors import UserError
from duopose.skeletons import COCO
from duopose.types import Batch, Sample

CONFIG = (
    Path(__file__).resolve().parents[2]
    / "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"
)
KEYS = [[(0, 0), (0, 2)], [(0, 1), (3, 0)], [(3, 1)]]


def training_set(root: Path, size: int = 128, *overrides: object) -> CocoFormatDataset:
    settings = ["DATASET.ROOT", str(root), "DATASET.INPUT_SIZE", str(size), *overrides]
    return build_dataset(
        load_config(CONFIG, settings), COCO, BENCHMARKS["coco"].layout, "train2017", train=True
    )


def same(one: Batch, two: Batch) -> bool:
    tensors = zip(
        (one.images, one.keypoints, *one.masks),
        (two.images, two.keypoints, *two.masks),
        strict=True,
    )
    return one.image_ids == two.image_ids and all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_batches_do_not_depend_on_workers(tiny_root: Path, workers: int, context: str) -> None:
    dataset = training_set(tiny_root)
    expected = list(make_data_loader(dataset, KEYS))
    loader = make_data_loader(dataset, KEYS, workers=workers, context=context)
    for _ in range(2):  # persistent workers serve a second epoch
        found = list(loader)
        assert len(found) == len(loader) == 3
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_epochs_and_seeds_differ(tiny_root: Path) -> None:
    dataset, other = training_set(tiny_root), training_set(tiny_root, 128, "SEED", "5")
    assert np.array_equal(dataset[(1, 0)].image, dataset[(1, 0)].image)
    assert not np.array_equal(dataset[(1, 0)].image, dataset[(2, 0)].image)
    assert not np.array_equal(dataset[(1, 0)].image, other[(1, 0)].image)


def test_collate_pads_people_and_keeps_order() -> None:
    samples = []
    for count in (0, 3, 1):
        keypoints = np.full((count, 17, 3), count, np.float32)
        masks = (np.ones((2, 2), np.uint8), np.ones((4, 4), np.uint8))
        samples.append(
            Sample(
                np.full((8, 8, 3), count, np.uint8),
                keypoints,
                np.ones((8, 8), np.uint8),
                count,
                masks,
            )
        )
    batch = collate(samples)
    assert batch.images.shape == (3, 3, 8, 8) and batch.images[1].unique().tolist() == [3]
    assert batch.keypoints.shape == (3, 3, 17, 3) and batch.keypoints.dtype == torch.float32
    assert (
        batch.keypoints[2, 0].unique().tolist() == [1]
        and not batch.keypoints[2, 1:].any()
        and not batch.keypoints[0].any()
    )
    assert [mask.shape for mask in batch.masks] == [(3, 2, 2), (3, 4, 4)] and batch.image_ids == [
        0,
        3,
        1,
    ]


def test_a_batch_without_people_has_one_row() -> None:
    sample = Sample(
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 17, 3), np.float32),
        np.ones((8, 8), np.uint8),
        1,
        (),
    )
    assert collate([sample]).keypoints.shape == (1, 1, 17, 3)


def test_a_sample_is_below_one_megabyte(tiny_root: Path) -> None:
    batch = collate([training_set(tiny_root, 512)[(0, 0)]])
    tensors = (batch.images, batch.keypoints, *batch.masks)
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) < 1e6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_named_from_any_process(tiny_root: Path, workers: int) -> None:
    (tiny_root / "images" / "train2017" / "p20.png").unlink()
    loader = make_data_loader(training_set(tiny_root), KEYS, workers=workers)
    with pytest.raises(UserError) as error:
        list(loader)
    assert "p20.png (id 20)" in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory"),
        ConnectionRefusedError(111, "Connection refused"),
        EOFError(),
    ],
)
def test_a_lost_connection_to_a_worker_is_explained(error: Exception) -> None:
    """A worker that dies between announcing a batch and handing it over."""
    with pytest.raises(RuntimeError) as raised:
        list(loader_that_fails_with(error))
    explanation = explain_error(raised.value)
    assert explanation is not None and "WORKERS" in explanation


def test_an_error_inside_a_worker_keeps_its_kind() -> None:
    with pytest.raises(EOFError):
        list(loader_that_fails_with(EOFError("Caught EOFError in DataLoader worker process 0.")))


def loader_that_fails_with(error: Exception) -> BatchLoader[Batch]:
    class Failing(BatchLoader[Batch]):
        def __init__(self) -> None:
            self.loader = batches()  # type: ignore[assignment]

    def batches() -> Iterator[Batch]:
        raise error
        yield

    return Failing()


class Silent:
    """A data set that never answers."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _index: int) -> Sample:
        time.sleep(1e6)
        raise AssertionError


def test_a_worker_that_never_answers_is_a_user_error() -> None:
    """The setting of the limit is named, and the worker ends."""
    loader: DataLoader[Sample] = DataLoader(
        Silent(),  # type: ignore[arg-type]
        num_workers=1,
        timeout=0.5,
        worker_init_fn=prepare_worker,
    )
    with pytest.raises(UserError, match="DATA_TIMEOUT"):
        list(BatchLoader[Sample](loader))
    assert not active_children()
