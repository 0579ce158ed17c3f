"""Where AP is lost: the truth is put in for one stage of a trained network's decoding at a time.

    as is         nothing
    heatmaps      ideal heatmaps; tags and offsets are the network's
    peak choice   peaks that are no annotated joint are removed
    grouping      each matched peak belongs to its annotated person
    position      each matched peak lies on its annotated joint
    ranking       the score of a person is its OKS with the annotated person that it matches best

Peaks are matched to annotated joints as for a calibration (`calibration.collect`). The truth's
grouping removes the other peaks, too, so it contains the peak choice. All other stages of a row are
the decoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from duopose.benchmarks import build_benchmark, build_evaluator
from duopose.calibration.calibrate import decode_image, match_people, oks_matrix, with_settings
from duopose.calibration.collect import ImagePeaks, collect_peaks, to_image_frame
from duopose.datasets import build_dataset
from duopose.decode.decoder import Decoder
from duopose.decode.evidence import select_peaks
from duopose.decode.people import NONE, GroupedPeople
from duopose.geometry import InputFrame
from duopose.inference.model import Model
from duopose.inference.protocol import scales_and_flip
from duopose.oracle.ideal_maps import ideal_passes
from duopose.oracle.perfect_network import METRICS, build_ideal_network, exact_entries
from duopose.oracle.simulated_people import ideal_people
from duopose.types import PoseMaps, Poses

StageRow = dict[str, Any]  # "truth for" and METRICS
Stage = Callable[[Decoder, ImagePeaks], Poses]


def ladder_rows(model: Model, limit: int = 0) -> list[StageRow]:
    """A row for each stage, on the first `limit` images (0: all) of DATASET.TEST."""
    cfg = model.cfg
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, model.skeleton, layout, cfg.DATASET.TEST, train=False)
    indices = range(len(dataset))[: limit or None]
    predictor = model.predictor
    images = collect_peaks(predictor, dataset, indices)
    with_ideal_heatmaps = collect_peaks(
        predictor, dataset, indices, edit_maps=ideal_heatmaps(model)
    )

    evaluate = build_evaluator(cfg, model.skeleton)
    image_ids = [image.image_id for image in images]
    rows = []
    for name, stage in STAGES.items():
        chosen = with_ideal_heatmaps if name == "heatmaps" else images
        results = [to_image_frame(stage(predictor.decoder, image), image) for image in chosen]
        values = evaluate(exact_entries(results), dataset.annotation_path, image_ids).values
        row: StageRow = {"truth for": name}
        row.update({metric: values.get(metric) for metric in METRICS})
        rows.append(row)
    return rows


def ideal_heatmaps(model: Model) -> Callable[[PoseMaps, np.ndarray, InputFrame], PoseMaps]:
    """Replaces the heatmaps of merged maps by those of the annotated keypoints (P, K, 3)."""
    network = build_ideal_network(model.cfg, model.skeleton)
    _, flip = scales_and_flip(model.cfg)

    def replace_heatmaps(maps: PoseMaps, keypoints: np.ndarray, frame: InputFrame) -> PoseMaps:
        people = ideal_people(keypoints, np.ones(len(keypoints)), network.layout)
        passes = ideal_passes(people, frame, [frame], network, model.skeleton, flip)
        ideal = model.predictor.merge(passes, frame)
        return maps._replace(heatmaps=ideal.heatmaps, layers=ideal.layers)

    return replace_heatmaps


# ---- stages ----


def choose_peaks(decoder: Decoder, image: ImagePeaks) -> Poses:
    """Without the peaks that are no annotated joint."""
    chosen = image.owner != NONE
    peaks = select_peaks(image.peaks, chosen)
    return decode_image(decoder, replace(image, peaks=peaks, owner=image.owner[chosen]))


def true_groups(decoder: Decoder, image: ImagePeaks) -> Poses:
    """With the annotated person of each peak."""
    peaks = image.peaks
    num_people, num_joints = image.truth.labelled[:, :-1].shape
    index = np.full((num_people, num_joints + 1), NONE)
    rows = np.flatnonzero(image.owner != NONE)
    index[image.owner[rows], peaks.joint[rows]] = rows

    unknown = np.full((num_people, 2), np.nan)
    no_tag = np.zeros((num_people, peaks.tag.shape[1]))
    people = GroupedPeople.without_joints(index[:, -1], no_tag, unknown, num_joints)
    people.peak_index = index[:, :-1]
    people.update_from_peaks(peaks, decoder.settings.offset_sigma)
    return decoder.to_poses(peaks, people.select(np.flatnonzero(people.present.any(axis=1))))


def true_positions(decoder: Decoder, image: ImagePeaks) -> Poses:
    """With matched peaks moved to their joints after the grouping; MRM is off."""
    people = decoder.grouper.group(image.peaks)
    rows = np.flatnonzero(image.owner != NONE)
    position = image.peaks.position.copy()
    position[rows] = image.truth.position[image.owner[rows], image.peaks.joint[rows]]
    fixed = with_settings(decoder, replace(decoder.settings, mrm="off"))
    return fixed.to_poses(image.peaks._replace(position=position), people)


def true_ranking(decoder: Decoder, image: ImagePeaks) -> Poses:
    """With the OKS as score; an annotated person counts for the best of its detections only."""
    poses = decode_image(decoder, image)
    position = poses.keypoints[..., :2]
    best_first = oks_matrix(position, image.truth, decoder.skeleton).max(axis=1, initial=0.0)
    oks, _ = match_people(position, best_first, image.truth, decoder.skeleton)
    return replace(poses, scores=oks)


STAGES: dict[str, Stage] = {
    "as is": decode_image,
    "heatmaps": decode_image,
    "peak choice": choose_peaks,
    "grouping": true_groups,
    "position": true_positions,
    "ranking": true_ranking,
}
