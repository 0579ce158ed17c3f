"""Peaks of a network and the annotated people of the same images, matched, as plain arrays.

For each image the network runs once; its `Peaks` are kept, the maps are not. Peaks are matched to
annotated joints one joint type at a time, so that the sum of distances is smallest (Hungarian
method), and only within MATCH_DISTANCE person sizes.

A person's size is estimated from its labelled joints as everywhere in the decoder
(`decode.mrm.person_size`). Left out are peaks on ignored regions, and unmatched peaks near a
person whose joint of that type is not labelled: nobody knows what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.datasets.dataset import CocoFormatDataset
from duopose.decode.mrm import person_size
from duopose.decode.people import NONE
from duopose.geometry import Affine, InputFrame
from duopose.inference.predictor import Predictor, prepare_image
from duopose.types import ImageResult, Peaks, PoseMaps, Poses

# Largest distance of a peak from its joint, in person sizes. Of the demo network's matched peaks
# with a score above 0.7, nine of ten are within 0.05.
MATCH_DISTANCE = 0.2
MIN_SIZE = 8.0  # pixels: people of one labelled joint have no size
# Unmatched peaks within this many person sizes of someone without a label of that type are left out
UNLABELLED_DISTANCE = 1.0


@dataclass(frozen=True)
class AnnotatedPeople:
    """The truth of one image, merged input frame; joint K is the centre."""

    position: np.ndarray  # (P, K+1, 2)
    labelled: np.ndarray  # (P, K+1) bool
    size: np.ndarray  # (P,) pixels

    @staticmethod
    def from_keypoints(keypoints: np.ndarray) -> AnnotatedPeople:
        """From (P, K, 3) x, y, visibility in the merged input frame."""
        labelled = keypoints[..., 2] > 0
        joints = keypoints[..., :2].astype(np.float64)
        total = np.where(labelled[..., None], joints, 0.0).sum(axis=1)
        count = np.maximum(labelled.sum(axis=1), 1)
        centre = total / count[:, None]

        position = np.concatenate([joints, centre[:, None]], axis=1)
        has_centre = np.ones((len(labelled), 1), dtype=bool)
        size = np.maximum(person_size(joints, labelled), MIN_SIZE)
        return AnnotatedPeople(position, np.concatenate([labelled, has_centre], axis=1), size)


@dataclass(frozen=True)
class ImagePeaks:
    """One image: what the network found, and what is there."""

    image_id: int | str
    peaks: Peaks
    truth: AnnotatedPeople
    owner: np.ndarray  # (M,) int: person whose joint the peak is, NONE for false peaks
    usable: np.ndarray  # (M,) bool: not left out
    to_image: Affine  # from the merged input frame


EditMaps = Callable[[PoseMaps, np.ndarray, InputFrame], PoseMaps]


def collect_peaks(
    predictor: Predictor,
    dataset: CocoFormatDataset,
    indices: Sequence[int],
    on_image: Callable[[], None] = lambda: None,
    edit_maps: EditMaps | None = None,
) -> list[ImagePeaks]:
    """Run the network on images of a data set without augmentation.

    on_image: called after each image. edit_maps: changes the merged maps, given the annotated
    keypoints (P, K, 3) in the merged input frame and that frame.
    """
    return list(_images(predictor, dataset, indices, on_image, edit_maps))


def to_image_frame(poses: Poses, image: ImagePeaks) -> ImageResult:
    """People of the merged input frame in the image frame."""
    is_found = poses.keypoints[..., 2:] > 0
    keypoints = np.where(is_found, image.to_image.apply(poses.keypoints), 0.0)
    return ImageResult(image.image_id, replace(poses, keypoints=keypoints))


def _images(
    predictor: Predictor,
    dataset: CocoFormatDataset,
    indices: Sequence[int],
    on_image: Callable[[], None],
    edit_maps: EditMaps | None,
) -> Iterator[ImagePeaks]:
    for index in indices:
        sample = dataset.load_usable(index)
        prepared = prepare_image(sample.image, sample.image_id, predictor.transform)
        passes = predictor.forward([prepared])[0]
        frame = predictor.transform.merged_frame(prepared.width, prepared.height)
        maps = predictor.merge(passes, frame)
        keypoints = frame.affine.apply(sample.keypoints)
        if edit_maps is not None:
            maps = edit_maps(maps, keypoints, frame)

        peaks = predictor.decoder.find_peaks(maps)
        truth = AnnotatedPeople.from_keypoints(keypoints)
        to_image = frame.affine.inverse()
        owner = match_peaks(peaks, truth)
        usable = (owner != NONE) | ~_of_unknown_truth(peaks, truth)
        usable &= ~_on_ignored_region(to_image.apply(peaks.position), sample.mask)
        yield ImagePeaks(sample.image_id, peaks, truth, owner, usable, to_image)
        on_image()


def match_peaks(peaks: Peaks, truth: AnnotatedPeople) -> np.ndarray:
    """(M,) person whose joint each peak is, NONE where it is of no person."""
    owner = np.full(len(peaks.joint), NONE)
    if not len(truth.size):
        return owner

    for joint in range(truth.position.shape[1]):
        rows = np.flatnonzero(peaks.joint == joint)
        people = np.flatnonzero(truth.labelled[:, joint])
        if not len(rows) or not len(people):
            continue
        difference = truth.position[people, joint][:, None] - peaks.position[rows]
        distance = np.linalg.norm(difference, axis=2) / truth.size[people, None]
        gain = np.maximum(MATCH_DISTANCE - distance, 0.0)
        person, peak = linear_sum_assignment(gain, maximize=True)
        near = gain[person, peak] > 0
        owner[rows[peak[near]]] = people[person[near]]
    return owner


def _of_unknown_truth(peaks: Peaks, truth: AnnotatedPeople) -> np.ndarray:
    """(M,) bool: near a person whose joint of that type is not labelled."""
    if not len(truth.size):
        return np.zeros(len(peaks.joint), dtype=bool)
    difference = truth.position[:, -1][:, None] - peaks.position
    distance = np.linalg.norm(difference, axis=2)
    is_near = distance < UNLABELLED_DISTANCE * truth.size[:, None]
    return (is_near & ~truth.labelled[:, peaks.joint]).any(axis=0)


def _on_ignored_region(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(M,) bool, for points (M, 2) of the image frame and a mask (H, W), 0 where ignored."""
    height, width = mask.shape
    column = np.clip(np.rint(points[:, 0]), 0, width - 1).astype(int)
    row = np.clip(np.rint(points[:, 1]), 0, height - 1).astype(int)
    return mask[row, column] == 0
