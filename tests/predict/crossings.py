"""Drawn videos of people who cross, with the truth, and what a tracker makes of them.

    python -m tests.predict.crossings [--model FILE.pth] [--videos 10] [--first 100] [--people 3]

gives the same people to each tracker and prints the switches of ids. The people are those that the
model finds or, without a model, the truth with errors as of a good network (`noisy_people`). The
trackers of the package `trackers` are compared where it is installed: with their own defaults,
which leave new people without an id for some frames, and with an id for everybody at once.
"""

from __future__ import annotations

import importlib.util
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from duopose.datasets.sample_data.body import pose_body
from duopose.datasets.sample_data.figure import Canvas, draw_figure, random_look
from duopose.inference.model import People, load
from duopose.predict.tracking import PoseTracker
from duopose.skeletons import COCO

RATE = 25.0  # frames a second
HEIGHT = 128  # pixels
WIDTH = 256
OVERSAMPLING = 2
BOX_TRACKERS = ("SORTTracker", "ByteTrackTracker", "OCSORTTracker", "BoTSORTTracker")
MATCH_DISTANCE = 0.25  # mean distance of joints over the person's height

Frame = tuple[np.ndarray, np.ndarray]  # image (H, W, 3) uint8 RGB, truth (P, K, 2)
Update = Callable[[People], np.ndarray]  # people of the next frame -> ids


def crossing_video(seed: int, num_frames: int = 75, num_people: int = 3) -> Iterator[Frame]:
    """People who walk to the opposite side of the image, past each other, swaying a little."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(
        rng.integers(60, 200, (8, 16, 3), dtype=np.uint8),
        (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING),
        interpolation=cv2.INTER_CUBIC,
    )
    bodies = [pose_body(rng) for _ in range(num_people)]
    looks = [random_look(rng) for _ in range(num_people)]
    heights = np.sort(rng.uniform(0.6, 0.8, num_people)) * HEIGHT * OVERSAMPLING
    slots = rng.permutation(np.linspace(0.12, 0.88, num_people))
    start = slots + rng.uniform(-0.06, 0.06, num_people)
    end = 1 - slots + rng.uniform(-0.06, 0.06, num_people)
    sway = rng.uniform(0, 2 * np.pi, num_people)

    for number in range(num_frames):
        progress = number / max(num_frames - 1, 1)
        canvas = Canvas(background.copy(), np.zeros(background.shape[:2], dtype=np.uint8))
        truth = []
        for person, body in enumerate(bodies):
            angle = 0.12 * np.sin(2 * np.pi * 2 * progress + sway[person])
            x = (start[person] + progress * (end[person] - start[person])) * WIDTH * OVERSAMPLING
            joints = _moved(body, heights[person], angle, x, 0.55 * HEIGHT * OVERSAMPLING)
            draw_figure(canvas, joints, looks[person], heights[person], person)
            truth.append([joints[name][:2] for name in COCO.keypoints])
        image = cv2.resize(canvas.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        yield image, (np.array(truth) + 0.5) / OVERSAMPLING - 0.5


def _moved(
    body: dict[str, np.ndarray], height: float, angle: float, x: float, y: float
) -> dict[str, np.ndarray]:
    """The body scaled, turned in the image and moved, in pixels of the canvas."""
    cos = np.cos(angle)
    sin = np.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shift = np.array([x, y, 0])
    return {name: height * (rotation @ point) + shift for name, point in body.items()}


def write_video(path: Path, frames: Iterator[Frame], rate: float = RATE) -> Path:
    """The images as an mp4 file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (WIDTH, HEIGHT))
    for image, _ in frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def match_to_truth(keypoints: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(Q,) row of the person found for each true one, -1 without; truth (Q, K, 2)."""
    rows = np.full(len(truth), -1)
    found = keypoints[..., 2] > 0
    if not len(keypoints):
        return rows
    distance = np.linalg.norm(keypoints[None, ..., :2] - truth[:, None], axis=3)
    count = np.maximum(found.sum(axis=1), 1)
    mean = (distance * found).sum(axis=2) / count
    relative = mean / np.ptp(truth[..., 1], axis=1)[:, None]
    while relative.min() < MATCH_DISTANCE:
        person, row = np.unravel_index(relative.argmin(), relative.shape)
        rows[person] = row
        relative[person] = np.inf
        relative[:, row] = np.inf
    return rows


class Score(NamedTuple):
    """How well a tracker did; sums over videos are made of the fields."""

    switches: int  # a true person is found with another id than the last time
    ids: int  # different ids
    followed: int  # IDTP: frames in which a true person has the id that is chosen as its own
    true: int  # people in all frames
    found: int  # people with an id in all frames

    @property
    def idf1(self) -> float:
        """Ristani et al., ECCV Workshops 2016."""
        return 2 * self.followed / max(self.true + self.found, 1)


def score_tracker(update: Update, frames: Sequence[tuple[People, np.ndarray]]) -> Score:
    """Follow the people of one video and compare with the truth."""
    last: dict[int, int] = {}
    common: Counter[tuple[int, int]] = Counter()
    switches = 0
    num_true = 0
    num_found = 0
    for people, truth in frames:
        ids = update(people)
        num_true += len(truth)
        num_found += int((ids > 0).sum())
        for person, row in enumerate(match_to_truth(people.keypoints, truth)):
            if row < 0 or ids[row] <= 0:
                continue
            switches += last.get(person, ids[row]) != ids[row]
            last[person] = ids[row]
            common[person, int(ids[row])] += 1

    used = sorted({number for _, number in common})
    table = np.zeros((num_true, len(used)))
    for (person, number), count in common.items():
        table[person, used.index(number)] = count
    followed = table[linear_sum_assignment(table, maximize=True)].sum()
    return Score(switches, len(used), int(followed), num_true, num_found)


def noisy_people(truth: np.ndarray, seed: int) -> People:
    """The people of truth (P, K, 2), in another order and with errors.

    Joints are off by 2 % of the person's height. A joint inside the box of a person who is nearer
    (later in the order) is missing in two of three cases, any other in one of ten. Of a person
    without five joints nothing is found.
    """
    rng = np.random.default_rng(seed)
    height = np.ptp(truth[..., 1], axis=1)
    keypoints = np.ones((*truth.shape[:2], 3))
    keypoints[..., :2] = truth + rng.normal(0, 0.02, truth.shape) * height[:, None, None]
    for person, joints in enumerate(truth):
        hidden = np.zeros(len(joints), dtype=bool)
        for nearer in truth[person + 1 :]:
            inside = (joints > nearer.min(axis=0)) & (joints < nearer.max(axis=0))
            hidden |= inside.all(axis=1)
        missing = rng.random(len(joints)) < np.where(hidden, 0.67, 0.1)
        keypoints[person, missing] = 0

    keypoints = keypoints[(keypoints[..., 2] > 0).sum(axis=1) >= 5]
    keypoints = rng.permutation(keypoints)
    filled = np.zeros(keypoints.shape[:2], dtype=bool)
    return People(keypoints, np.full(len(keypoints), 0.9), filled, COCO)


def oks_tracker() -> Update:
    """Ours."""
    tracker = PoseTracker(COCO, max_missed=round(RATE))
    return lambda people: tracker.update(people.keypoints)


def box_tracker(name: str, ids_at_once: bool) -> Update:
    """A tracker of the package `trackers`, which takes boxes."""
    import supervision
    import trackers

    settings = {"minimum_consecutive_frames": 1} if ids_at_once else {}
    tracker = getattr(trackers, name)(frame_rate=RATE, **settings)

    def update(people: People) -> np.ndarray:
        boxes = np.zeros((len(people), 4), np.float32)
        for row, keypoints in enumerate(people.keypoints):
            points = keypoints[keypoints[:, 2] > 0, :2]
            boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
        detections = supervision.Detections(
            xyxy=boxes,
            confidence=people.scores.astype(np.float32),
            class_id=np.zeros(len(people), dtype=int),
            data={"row": np.arange(len(people))},
        )
        tracked = tracker.update(detections)
        ids = np.full(len(people), -1)
        if len(tracked):
            ids[tracked.data["row"]] = tracked.tracker_id
        return np.where(ids >= 0, ids + 1, 0)

    return update


def main(arguments: list[str]) -> None:
    """Print a table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--first", type=int, default=100, help="seed of the first video")
    parser.add_argument("--people", type=int, default=3)
    args = parser.parse_args(arguments)
    model = load(args.model, "cpu", ("TEST.PRESET", "clean")) if args.model else None

    videos = []
    for seed in range(args.first, args.first + args.videos):
        found = []
        for number, (image, truth) in enumerate(crossing_video(seed, num_people=args.people)):
            people = model(image) if model else noisy_people(truth, 1000 * seed + number)
            found.append((replace(people, image=None), truth))
        videos.append(found)

    makers: dict[str, Callable[[], Update]] = {"OKS": oks_tracker}
    if importlib.util.find_spec("trackers"):
        for name in BOX_TRACKERS:
            makers[name] = partial(box_tracker, name, False)
            makers[f"{name}, ids at once"] = partial(box_tracker, name, True)
    else:
        print("the package trackers is not installed")

    print(f"{len(videos)} videos of {args.people} people")
    for name, make in makers.items():
        scores = [score_tracker(make(), video) for video in videos]
        total = Score(*np.sum(scores, axis=0).tolist())
        found_percent = 100 * total.found / total.true
        print(
            f"{name}: {total.switches} switches, {total.ids} ids, IDF1 {total.idf1:.3f}, "
            f"people with an id {found_percent:.0f} %"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
