"""Joints that were not found are looked for where the person's other joints say they are: at peaks first, never over whole maps."""

from __future__ import annotations

import numpy as np

from duopose.decode.limbs import offset_sigma
from duopose.decode.sample import cells_of, gather
from duopose.decode.settings import DecoderSettings
from duopose.geometry import Affine
from duopose.skeletons import OffsetLayout
from duopose.types import MapLayer, Peaks, PoseMaps

_IDENTITY = Affine(np.eye(2, 3))


def predicted(peaks: Peaks, member: np.ndarray, layout: OffsetLayout) -> np.ndarray:
    """(P, K, 2) mean of what the found neighbours' offsets say about each joint; NaN where none says anything."""
    people, joints = member.shape
    total, count = np.zeros((people, joints, 2)), np.zeros((people, joints))
    for entry, (source, target) in enumerate(zip(layout.source, layout.target)):
        if target == joints:
            continue
        there = member[:, source] >= 0
        total[there, target] += peaks.vote[member[there, source], entry]
        count[there, target] += 1
    return np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], np.nan)


def fill(
    peaks: Peaks,
    maps: PoseMaps,
    member: np.ndarray,
    position: np.ndarray,
    score: np.ndarray,
    layout: OffsetLayout,
    settings: DecoderSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (P, K, 2), scores (P, K) with missing joints put in where something is known of them, and which (P, K) were."""
    position, score = position.copy(), score.copy()
    missing = member < 0
    filled = np.zeros_like(missing)
    if not len(member):
        return position, score, filled
    guess = predicted(peaks, member, layout)
    sigma = offset_sigma(peaks, layout, settings.offset_sigma, settings.offset_sigma_relative)
    for joint in range(member.shape[1]):
        who = np.flatnonzero(missing[:, joint] & ~np.isnan(guess[:, joint, 0]))
        if not len(who):
            continue
        where = guess[who, joint].copy()
        candidates = np.flatnonzero(peaks.joint == joint)
        if len(candidates):
            distance = np.linalg.norm(where[:, None] - peaks.position[candidates][None], axis=2)
            nearest = distance.argmin(axis=1)
            close = distance[np.arange(len(who)), nearest] < 2 * np.median(sigma)
            where[close] = peaks.position[candidates[nearest[close]]]
        position[who, joint] = where
        score[who, joint] = _heights(maps, joint, where)
        filled[who, joint] = True
    return position, score, filled


def _heights(maps: PoseMaps, joint: int, points: np.ndarray) -> np.ndarray:
    """Heatmap values (N,) at points (N, 2), at least a trace, so that a filled joint counts as there."""
    cells = cells_of(MapLayer(maps.heatmaps, maps.frame, _IDENTITY, np.arange(len(maps.heatmaps))), points)
    channel = np.full(len(points), joint)
    return np.clip(gather(maps.heatmaps, channel, cells[:, 1], cells[:, 0]), 0.01, 1.0)
