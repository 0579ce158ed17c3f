"""Reading and writing videos frame by frame with OpenCV: no sound, bounded memory."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from duopose.errors import UserError
from duopose.image_files import ImageLimits, check_aspect, check_size
from duopose.predict.sources import MAX_ASPECT, VideoItem

CODEC = "mp4v"  # MPEG-4 part 2: in every build of OpenCV; H.264 is not
DEFAULT_RATE = 25.0  # frames a second, where a camera does not say
MAX_RATE = 240.0  # a container that states more gives its time base, not a rate
OPEN_TIMEOUT = 10_000  # milliseconds for a stream to answer
# Containers estimate their number of frames. A file that ends earlier by more is truncated.
FRAME_COUNT_TOLERANCE = 0.02
MIN_MISSING_FRAMES = 3
MAX_REPEATED_SECONDS = 5.0  # of a live video, where the source pauses
MAX_PIXELS = 40_000_000  # of a frame: 8K has 33 million; FFmpeg takes ten bytes for each
# Containers that hold their frames themselves. A script or a playlist with the name of a video
# would make FFmpeg open other files.
CONTAINERS = (
    "mov,avi,flv,gif,matroska,mpeg,mpegts,mpegtsraw,mpegvideo,m4v,ogg,asf,h264,hevc,mjpeg,dv,mxf"
)
OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # environment variable that OpenCV reads


class VideoReader:
    """The frames of a video as (H, W, 3) uint8 RGB; iterate once."""

    def __init__(
        self, item: VideoItem, limits: ImageLimits | None = None, max_aspect: float = MAX_ASPECT
    ) -> None:
        self.item = item
        self._limits = limits or ImageLimits()
        self._max_aspect = max_aspect
        self._capture = _open(item)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= MAX_RATE else DEFAULT_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # As the file states it; None where unknown
        is_known = not item.is_live and math.isfinite(count) and count > 0
        self.num_frames = int(count) if is_known else None
        self.num_read = 0
        self._check_stated_size()

    def _check_stated_size(self) -> None:
        """UserError before a frame is decoded, which takes the memory."""
        width = self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        height = self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            self.close()
            raise UserError(
                f"has frames of {width:.0f} x {height:.0f} pixels; at most {MAX_PIXELS / 1e6:g} "
                "million are accepted: make it smaller"
            )

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            try:
                is_read, bgr = self._capture.read()
            except cv2.error:
                return
            if not is_read:
                return
            check_size(bgr.shape[1], bgr.shape[0], self._limits)
            check_aspect(bgr.shape[1], bgr.shape[0], self._max_aspect)
            self.num_read += 1
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def problem(self) -> str | None:
        """After the last frame: why the video seems to be incomplete, else None."""
        if not self.num_read:
            return "holds no frame that can be read"
        if self.num_frames is None:
            return None
        missing = self.num_frames - self.num_read
        if missing < max(MIN_MISSING_FRAMES, FRAME_COUNT_TOLERANCE * self.num_frames):
            return None
        return (
            f"ended after {self.num_read} of {self.num_frames} frames: the file is truncated or "
            "damaged; the frames before are written"
        )

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()


def _open(item: VideoItem) -> cv2.VideoCapture:
    """UserError where there is no such camera, or no video."""
    # OpenCV and FFmpeg print warnings of their own for what becomes one sentence here.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if isinstance(item.address, int):
        capture = cv2.VideoCapture(item.address)
    elif item.is_live:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT]
        capture = cv2.VideoCapture(item.address, cv2.CAP_FFMPEG, timeouts)
    else:
        capture = _open_file(Path(item.address))
    if capture.isOpened():
        return capture

    capture.release()
    if isinstance(item.address, int):
        raise UserError("does not exist or is in use by another program; 0 is the first camera")
    if item.is_live:
        seconds = OPEN_TIMEOUT // 1000
        raise UserError(
            f"gave no video (waited up to {seconds} seconds); check the address and the password"
        )
    raise UserError("cannot be opened as a video: it is truncated, or no video")


def _check_letters(path: Path) -> None:
    """UserError for a path whose bytes are not UTF-8: OpenCV dies of it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise UserError(f"the path '{shown}' of a video is not in UTF-8: rename it") from error


def _open_file(path: Path) -> cv2.VideoCapture:
    """Nothing but this file is opened, whatever it holds and however it is called."""
    _check_letters(path.absolute())
    before = os.environ.get(OPTIONS)
    os.environ[OPTIONS] = f"format_whitelist;{CONTAINERS}|protocol_whitelist;file"
    try:
        # An absolute path: FFmpeg would take `concat:a.mp4` for a protocol.
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [])
    finally:
        if before is None:
            del os.environ[OPTIONS]
        else:
            os.environ[OPTIONS] = before


class VideoWriter:
    """An mp4 file that grows frame by frame; the size is that of the first frame, made even.

    rate: frames a second. is_live: the frames come when they come, and are repeated or left out so
    that the video lasts as long as the recording.
    """

    def __init__(self, path: Path, rate: float, is_live: bool = False) -> None:
        self.path = path
        self.rate = rate
        self.is_live = is_live
        self.num_written = 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start = 0.0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, image: np.ndarray, now: float | None = None) -> None:
        """Add a frame (H, W, 3) uint8 RGB; now: seconds, by default the clock's."""
        now = time.monotonic() if now is None else now
        if self._writer is None:
            # The codec takes even sizes alone, and OpenCV would cut a row or column off.
            self._size = (image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2)
            self._writer = self._new_writer()
            self._start = now

        bgr = self._fitted(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        for _ in range(self._copies(now)):
            self._writer.write(bgr)
            self.num_written += 1

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """The image in the size of the video: a row or column repeated, otherwise resized."""
        right = self._size[0] - image.shape[1]
        bottom = self._size[1] - image.shape[0]
        if right in (0, 1) and bottom in (0, 1):
            return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return cv2.resize(image, self._size)

    def _copies(self, now: float) -> int:
        if not self.is_live:
            return 1
        due = round((now - self._start) * self.rate) + 1
        return min(max(due - self.num_written, 0), round(MAX_REPEATED_SECONDS * self.rate))

    def _new_writer(self) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*CODEC)
        _check_letters(self.path)
        self.path.unlink(missing_ok=True)  # a link of that name must not be followed
        writer = cv2.VideoWriter(str(self.path), code, self.rate, self._size)
        if not writer.isOpened():
            raise UserError(
                f"the video '{self.path}' cannot be written; is the disk full, or is OpenCV "
                "built without FFmpeg?"
            )
        return writer

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
