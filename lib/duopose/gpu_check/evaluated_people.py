"""The people of many images, as an evaluation finds them, against those of single images.

On a GPU an evaluation computes a batch in one thread while a second thread, in a stream of its own,
decodes the images before. If one of them read maps too early or too late, people would differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import duopose
from duopose.gpu_check.check_runner import Finding
from duopose.inference.model import Model
from duopose.inference.predict_dataset import InputImages, predict_dataset
from duopose.inference.predictor import PreparedImage, StageTimes
from duopose.profiling.synthetic_data import drawn_dataset
from duopose.runtime import configure_torch
from duopose.types import ImageResult

NUM_IMAGES = {"cuda": 40, "cpu": 6}
BATCH = 8
REPEATS = {"cuda": 3, "cpu": 1}
PIXELS = 0.5
# A peak at a threshold may be found or not, because batches differ in the last bits of their sums.
ALLOWED = 0.1  # of the images


def evaluated_people(device: str) -> Iterator[Finding]:
    """The model in models/ on drawn images: batches, single images, and the CPU."""
    number = NUM_IMAGES[device]
    model = _model(device)
    with TemporaryDirectory(prefix="duopose-check-") as folder:
        dataset = drawn_dataset(Path(folder), number, model.cfg.DATASET.INPUT_SIZE)
        images = InputImages(dataset, model.predictor.transform)
        prepared = [images[index] for index in range(number)]
        single = _people_of_single_images(model, prepared)

        together: list[ImageResult] = []
        for _ in range(REPEATS[device]):
            together += predict_dataset(
                model.predictor, images, range(number), BATCH, 0, StageTimes(), lambda _: None
            )
    yield _compared("evaluation, as single images", together, single * REPEATS[device])

    if device == "cpu":
        yield Finding(
            "evaluation, as on the CPU", None, "on a CPU there is nothing to compare with"
        )
        return
    on_cpu = _people_of_single_images(_model("cpu"), prepared)
    yield _compared("evaluation, as on the CPU", single, on_cpu)


def _model(device: str) -> Model:
    model = duopose.load(device=device, settings=("CUDNN.TF32", False))
    configure_torch(model.cfg)
    return model


def _people_of_single_images(model: Model, prepared: Sequence[object]) -> list[ImageResult]:
    results = []
    for image in prepared:
        assert isinstance(image, PreparedImage), image  # else it is an error
        (passes,) = model.predictor.forward([image])
        results.append(model.predictor.decode(image, passes))
    return results


def _compared(name: str, found: Sequence[ImageResult], expected: Sequence[ImageResult]) -> Finding:
    different = sum(not _is_same(*pair) for pair in zip(found, expected, strict=True))
    people = sum(len(result.poses.scores) for result in found)
    figure = f"{people} people; {different} of {len(found)} images differ by over {PIXELS} pixels"
    return Finding(name, people > 0 and different <= ALLOWED * len(found), figure)


def _is_same(found: ImageResult, expected: ImageResult) -> bool:
    one = found.poses.keypoints
    other = expected.poses.keypoints
    if found.image_id != expected.image_id or one.shape != other.shape:
        return False
    return bool(np.abs(one - other).max(initial=0) <= PIXELS)
