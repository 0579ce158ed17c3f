"""Run a model on sources: read, predict, draw, write; what cannot be read is listed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from duopose.datasets.build import build_image_limits
from duopose.errors import UserError, counted
from duopose.files import write_atomically
from duopose.image_files import output_stem, safe_stem
from duopose.inference.model import Model, People
from duopose.predict.outputs import PredictionFiles
from duopose.predict.sources import ImageItem, Item, VideoItem
from duopose.predict.tracking import PoseTracker
from duopose.predict.video import VideoReader, VideoWriter

BAR_WITH_TOTAL = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
BAR = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_noinv_fmt}]"
JPEG_QUALITY = 92
MAX_LISTED = 20  # problems
MAX_MISSED_SECONDS = 1.0  # a person who comes back later gets a new id
MAX_MISSED_IMAGES = 25  # the same for images that are no video

Show = Callable[[np.ndarray], bool]  # shows a drawn image; False: the user closed the window
Element = TypeVar("Element")


@dataclass(frozen=True)
class Options:
    """What to do with the people that are found."""

    min_joint_score: float = 0.0  # joints with at most this score are not drawn
    track: bool = False
    draw: bool = True  # write drawn copies
    batch_size: int = 1  # images that go through the network together, where their sizes agree
    max_frames: int = 0  # of each video; 0: all
    show: Show | None = None


@dataclass
class Outcome:
    """What was done."""

    num_images: int = 0  # frames of videos included
    num_frames: int = 0
    num_people: int = 0
    drawn: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # one sentence per unreadable input
    was_interrupted: bool = False

    def counted_images(self) -> str:
        """For example "2 images", "75 frames", "1 image and 75 frames"."""
        num_stills = self.num_images - self.num_frames
        parts = [counted(num_stills, "image")] if num_stills else []
        if self.num_frames:
            parts.append(counted(self.num_frames, "frame"))
        return " and ".join(parts)

    def listed_problems(self) -> str:
        """One line each, MAX_LISTED at most."""
        lines = self.problems[:MAX_LISTED]
        if len(self.problems) > MAX_LISTED:
            lines = [*lines, f"and {len(self.problems) - MAX_LISTED} more"]
        return "".join(f"\n  {line}" for line in lines)


class StoppedByUser(Exception):
    """The window was closed."""


class Run:
    """One call of the tool: a model, an output folder, and what has been done so far."""

    def __init__(
        self, model: Model, folder: Path, files: PredictionFiles, options: Options
    ) -> None:
        self.model = model
        self.folder = folder
        self.files = files
        self.options = options
        self.outcome = Outcome()
        self.position = 0  # of the item among all, from 1; the first part of its output's name
        self._limits = build_image_limits(model.cfg)
        self._image_tracker = self._new_tracker(MAX_MISSED_IMAGES)

    def process(self, items: Sequence[Item]) -> Outcome:
        """All items in their order. Ctrl-C ends the run; what was done until then is kept."""
        try:
            for is_video, group in _groups(items):
                if is_video:
                    for item in group:
                        self.position += 1
                        self._process_video(item)
                else:
                    self._process_images(group)
        except KeyboardInterrupt:
            self.outcome.was_interrupted = True
        except StoppedByUser:
            pass
        self.outcome.num_images = self.files.num_images
        self.outcome.num_frames = self.files.num_frames
        self.outcome.num_people = self.files.num_people
        return self.outcome

    # ---- images ----

    def _process_images(self, items: Sequence[ImageItem]) -> None:
        with _bar(len(items), " images", disable=len(items) == 1) as bar:
            for chunk in _chunks(items, self.options.batch_size):
                self._process_chunk(chunk)
                bar.update(len(chunk))

    def _process_chunk(self, items: Sequence[ImageItem]) -> None:
        """Read some images, predict the readable ones together, write them in order."""
        readable: list[tuple[int, ImageItem, np.ndarray]] = []
        for item in items:
            self.position += 1
            try:
                image = item.read(self._limits, self.model.cfg.LIMITS.ASPECT)
                readable.append((self.position, item, image))
            except UserError as error:
                self.outcome.problems.append(f"{item.name}: {error}")
        if not readable:
            return

        images = [image for _, _, image in readable]
        people_of_images = self.model(images, batch_size=len(images))
        for (position, item, image), found in zip(readable, people_of_images, strict=True):
            people = self._tracked(found, self._image_tracker)
            self.files.add(people, item.name, (image.shape[1], image.shape[0]))
            drawn = self._draw(people, image)
            if drawn is not None and self.options.draw:
                self._write_image(drawn, position, item.name)

    def _write_image(self, image: np.ndarray, position: int, name: str) -> None:
        suffix = ".png" if name.lower().endswith(".png") else ".jpg"
        path = self.folder / f"{output_stem(position, name)}{suffix}"
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        try:
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            is_encoded, content = cv2.imencode(suffix, bgr, quality)
        except cv2.error:
            is_encoded = False
        if not is_encoded:
            self.outcome.problems.append(f"{name}: its drawn copy cannot be written as {suffix}")
            return
        write_atomically(path, content.tobytes())
        self.outcome.drawn.append(path)

    # ---- videos ----

    def _process_video(self, item: VideoItem) -> None:
        """One video, frame by frame; a video that ends early is a problem, its frames are kept."""
        try:
            reader = VideoReader(item, self._limits, self.model.cfg.LIMITS.ASPECT)
        except UserError as error:
            self.outcome.problems.append(f"{item.name}: {error}")
            return

        path = self.folder / f"{output_stem(self.position, item.name)}.mp4"
        writer = VideoWriter(path, reader.rate, item.is_live) if self.options.draw else None
        try:
            with writer or nullcontext():
                self._process_frames(reader, writer)
            if not self._is_cut(reader) and (problem := reader.problem()):
                self.outcome.problems.append(f"{item.name}: {problem}")
        except UserError as error:
            self.outcome.problems.append(f"{item.name}: {error}")
        finally:
            reader.close()
            if writer is not None and writer.num_written:
                self.outcome.drawn.append(path)

    def _process_frames(self, reader: VideoReader, writer: VideoWriter | None) -> None:
        tracker = self._new_tracker(round(MAX_MISSED_SECONDS * reader.rate))
        frames = islice(reader, self.options.max_frames or None)
        number = 0
        total = reader.num_frames
        with _bar(total, " frames", desc=safe_stem(reader.item.name)) as bar:
            for chunk in _chunks(frames, self.options.batch_size):
                for image, found in zip(chunk, self.model(chunk, len(chunk)), strict=True):
                    people = self._tracked(found, tracker)
                    size = (image.shape[1], image.shape[0])
                    seconds = number / reader.rate
                    self.files.add(people, reader.item.name, size, number, seconds)
                    number += 1
                    drawn = self._draw(people, image)
                    if drawn is not None and writer is not None:
                        writer.write(drawn)
                bar.update(len(chunk))

    def _is_cut(self, reader: VideoReader) -> bool:
        """Whether --frames ended the video, not its file."""
        return 0 < self.options.max_frames <= reader.num_read

    # ---- both ----

    def _new_tracker(self, max_missed: int) -> PoseTracker | None:
        return PoseTracker(self.model.skeleton, max_missed) if self.options.track else None

    def _tracked(self, people: People, tracker: PoseTracker | None) -> People:
        if tracker is None:
            return people
        return replace(people, track_ids=tracker.update(people.keypoints))

    def _draw(self, people: People, image: np.ndarray) -> np.ndarray | None:
        """The drawn image, shown if asked for; None where nobody wants one."""
        show = self.options.show
        if show is None and not self.options.draw:
            return None
        drawn = people.draw(image, min_joint_score=self.options.min_joint_score)
        if show is not None and not show(drawn):
            raise StoppedByUser
        return drawn


def predict(
    model: Model,
    items: Sequence[Item],
    folder: Path,
    options: Options,
    with_csv: bool = False,
    info: dict[str, Any] | None = None,
) -> Outcome:
    """Process items and write their files into an existing folder; info: for the json.

    Nothing is written where nothing could be read.
    """
    files = PredictionFiles(folder, model.skeleton, with_csv)
    try:
        return Run(model, folder, files, options).process(items)
    finally:
        if files.num_images:
            files.close(info or {})
        else:
            files.discard()


def _bar(total: int | None, unit: str, **options: Any) -> Any:
    """A progress bar whose rate is always per second: tqdm turns rates below 1 around."""
    layout = BAR_WITH_TOTAL if total else BAR
    return tqdm(total=total, unit=unit, bar_format=layout, **options)


def _groups(items: Sequence[Item]) -> Iterator[tuple[bool, list[Any]]]:
    """Runs of images, and of videos: (is_video, items)."""
    group: list[Item] = []
    for item in items:
        if group and isinstance(item, VideoItem) != isinstance(group[0], VideoItem):
            yield isinstance(group[0], VideoItem), group
            group = []
        group.append(item)
    if group:
        yield isinstance(group[0], VideoItem), group


def _chunks(elements: Sequence[Element] | Iterator[Element], size: int) -> Iterator[list[Element]]:
    """Lists of at most `size` elements."""
    iterator = iter(elements)
    while chunk := list(islice(iterator, size)):
        yield chunk
