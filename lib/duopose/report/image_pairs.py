"""The worst images with truth and predictions drawn on them, as data of the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from duopose.datasets.split_files import ImageSource, read_image
from duopose.errors import UserError
from duopose.geometry import Affine
from duopose.report.analysis import Analysis
from duopose.report.matching import NONE
from duopose.report.worst_images import worst_images
from duopose.types import Poses
from duopose.visualize.draw import draw_ground_truth, draw_people

LONG_SIDE = 480  # pixels of a drawn image
JPEG_QUALITY = 82
TRUTH = "truth"


@dataclass(frozen=True)
class DrawnImage:
    """One of the worst images: the truth, then the predictions of each source."""

    name: str  # file name
    image_id: int | str
    mistakes: tuple[str, ...]  # of each source, in words
    drawings: tuple[tuple[str, str], ...]  # (title, data url)


def drawn_worst_images(analyses: list[Analysis], number: int) -> tuple[list[DrawnImage], list[str]]:
    """The images with the most mistakes over all sources, and why some are not shown.

    All sources must have been scored on the same images.
    """
    source = next((one.source.images for one in analyses if one.source.images is not None), None)
    if source is None or number == 0:
        return [], []

    total = sum((one.mistakes.total for one in analyses), start=np.zeros(1))
    drawn = []
    problems = []
    for index in worst_images(total, number):
        try:
            drawn.append(_drawn(analyses, source, index))
        except UserError as error:
            problems.append(str(error))
    return drawn, problems


def _drawn(analyses: list[Analysis], source: ImageSource, index: int) -> DrawnImage:
    first = analyses[0]
    image_id = first.scoring.image_ids[index]
    record = next(record for record in first.scoring.file.images if record["id"] == image_id)
    name = str(record.get("file_name", ""))
    image = read_image(source, name, image_id)

    factor = LONG_SIDE / max(image.shape[:2])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)
    to_drawing = Affine.resize(factor, factor)

    drawings = [(TRUTH, _draw_truth(resized, first, index, to_drawing))]
    drawings += [(one.label, _draw_found(resized, one, index, to_drawing)) for one in analyses]
    urls = tuple((title, data_url(drawing)) for title, drawing in drawings)
    return DrawnImage(name, image_id, tuple(_in_words(one, index) for one in analyses), urls)


def _draw_truth(
    image: np.ndarray, analysis: Analysis, index: int, to_drawing: Affine
) -> np.ndarray:
    truth = analysis.matching.truth
    people = truth.keypoints[_people_of(analysis, index)]
    return draw_ground_truth(image, to_drawing.apply(people), analysis.source.skeleton)


def _draw_found(
    image: np.ndarray, analysis: Analysis, index: int, to_drawing: Affine
) -> np.ndarray:
    """Detections from the threshold on, each in the colour of the person that it matches."""
    found = analysis.matching.detections
    people = _people_of(analysis, index)
    shown = (found.image == index) & (found.score >= analysis.mistakes.threshold)
    rows = np.flatnonzero(shown)
    slots = _slots(found.person[rows], people)

    number = max([len(people), *(slot + 1 for slot in slots)])
    keypoints = np.zeros((number, *found.keypoints.shape[1:]))
    for row, slot in zip(rows, slots, strict=True):
        keypoints[slot] = found.keypoints[row]
        # Some results have 0 as score of joints that are there.
        keypoints[slot, :, 2] = found.has_position[row]
    keypoints = to_drawing.apply(keypoints)
    nothing_filled = np.zeros(keypoints.shape[:2], dtype=bool)
    poses = Poses(keypoints, np.ones(number), nothing_filled)
    return draw_people(image, poses, analysis.source.skeleton)


def _slots(person: np.ndarray, people: np.ndarray) -> list[int]:
    """Index of the colour of each detection: that of its person, else one that nobody has."""
    position = {int(index): slot for slot, index in enumerate(people)}
    unused: Iterator[int] = iter(range(len(people), len(people) + len(person)))
    return [position[index] if index in position else next(unused) for index in person.tolist()]


def _people_of(analysis: Analysis, index: int) -> np.ndarray:
    """Indices of the people of an image with labelled keypoints."""
    truth = analysis.matching.truth
    has_labels = (truth.keypoints[:, :, 2] > 0).any(axis=1)
    return np.flatnonzero((truth.image == index) & has_labels)


def _in_words(analysis: Analysis, index: int) -> str:
    """What was found at OKS .5, and the mistakes by which images are sorted."""
    found = analysis.matching.detections
    truth = analysis.matching.truth
    shown = (found.image == index) & (found.score >= analysis.mistakes.threshold)
    person = found.person_at[0]
    people = int((truth.counts & (truth.image == index)).sum())
    matched = person[shown & (person != NONE)]
    right = int(truth.counts[matched].sum())
    false = int((shown & (person == NONE) & ~found.ignored_at[0]).sum())
    total = analysis.mistakes.total[index]
    return f"{right} of {people} people found at OKS .50, {false} false; mistakes {total:.1f}"


def data_url(image: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as the data: url of a JPEG."""
    in_bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", in_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
