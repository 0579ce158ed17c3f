"""Files with the name of a video: nothing but the file is opened, and memory has a bound."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from duopose.errors import UserError
from duopose.predict import video
from duopose.predict.sources import VideoItem
from duopose.predict.video import VideoReader


def write_video(path: Path, number: int = 6) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for index in range(number):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()


def num_frames(path: Path) -> int:
    reader = VideoReader(VideoItem(path.name, str(path), is_live=False))
    try:
        return len(list(reader))
    finally:
        reader.close()


SCRIPTS = {
    "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
    "concat_outside.mp4": "ffconcat version 1.0\nfile link.mp4\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "session.mp4": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 5004 RTP/AVP 26\r\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_no_other_file(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "secret.mp4")
    (tmp_path / "link.mp4").symlink_to("secret.mp4")
    assert num_frames(tmp_path / "secret.mp4") == 6
    (tmp_path / name).write_text(SCRIPTS[name])
    with pytest.raises(UserError):
        num_frames(tmp_path / name)


def test_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", number=4)
    write_video(tmp_path / "b.mp4", number=6)
    Path("b.mp4").rename("concat:a.mp4")
    assert num_frames(Path("concat:a.mp4")) == 6
    assert video.OPTIONS not in os.environ


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """OpenCV would die of it."""
    path = tmp_path / "\udcff.mp4"
    write_video(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(path)
    with pytest.raises(UserError, match="UTF-8"):
        num_frames(path)
    with pytest.raises(UserError, match="UTF-8"), video.VideoWriter(path, 25) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))


def test_options_of_the_user_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(video.OPTIONS, "rtsp_transport;udp")
    write_video(tmp_path / "a.mp4")
    assert num_frames(tmp_path / "a.mp4") == 6
    assert os.environ[video.OPTIONS] == "rtsp_transport;udp"


def test_a_small_file_of_huge_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("P", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 16_000, 16_000)  # of the canvas
    path.write_bytes(content)
    with pytest.raises(UserError, match="16000 x 16000"):
        num_frames(path)


@pytest.mark.parametrize("suffix", ["gif", "avi", "mkv", "mov", "ts", "m4v", "3gp"])
def test_containers_that_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "gif":
        frames = [Image.new("RGB", (64, 48), (20 * index, 0, 0)) for index in range(6)]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    else:
        write_video(path)
    assert num_frames(path) == 6
