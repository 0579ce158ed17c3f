"""Images and videos through a tiny network: files, ids, sizes, rates, and inputs that fail."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from tests.predict.conftest import WriteImage
from tests.predict.crossings import HEIGHT, RATE, WIDTH, crossing_video, write_video

from duopose.inference.image_inputs import to_rgb_array
from duopose.inference.model import Model, People, load
from duopose.predict.predict_items import Options, Outcome, predict
from duopose.predict.sources import find_items
from duopose.predict.video import VideoWriter


def process(
    model: Model, folder: Path, *given: object, with_csv: bool = False, **options: Any
) -> tuple[Outcome, dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    items = find_items([str(one) for one in given])
    outcome = predict(model, items, folder, Options(**options), with_csv)
    path = folder / "predictions.json"
    return outcome, json.loads(path.read_text()) if path.exists() else {}


def read_frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_images(model: Model, write_image: WriteImage, tmp_path: Path) -> None:
    one = write_image("in/one.jpg", 90, 70)
    two = write_image("in/two.png", 70, 90, seed=1)
    outcome, content = process(model, tmp_path / "out", tmp_path / "in", with_csv=True)
    assert [path.name for path in outcome.drawn] == ["000001_one.jpg", "000002_two.png"]
    drawn = to_rgb_array(outcome.drawn[1])
    assert drawn.shape == (90, 70, 3) and (drawn != to_rgb_array(two)).any()

    assert content["images"] == [
        {"id": 1, "file_name": str(one), "width": 90, "height": 70},
        {"id": 2, "file_name": str(two), "width": 70, "height": 90},
    ]
    people = [model(str(one)), model(str(two))]
    assert len(people[0]) and len(content["annotations"]) == sum(map(len, people))
    first = content["annotations"][0]
    assert first["image_id"] == 1 and first["category_id"] == 1
    assert np.allclose(first["keypoints"], people[0].keypoints[0].ravel(), atol=6e-4)
    assert content["categories"][0]["keypoints"] == list(model.names)

    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["annotations"])
    assert rows[0]["file_name"] == str(one) and float(rows[0]["score"]) == round(first["score"], 6)
    joint = int(np.argmax(first["keypoints"][2::3]))
    column = f"{model.names[joint]}_x"
    assert float(rows[0][column]) == first["keypoints"][3 * joint]


def test_the_json_is_a_coco_file(model: Model, write_image: WriteImage, tmp_path: Path) -> None:
    process(model, tmp_path / "out", write_image("a.jpg"))
    coco = CocoFile(tmp_path / "out" / "predictions.json")
    assert coco.getImgIds() == [1] and len(coco.getAnnIds(imgIds=[1])) > 0


def test_unreadable_images_do_not_stop_the_rest(
    model: Model, write_image: WriteImage, tmp_path: Path
) -> None:
    write_image("in/a.jpg")
    (tmp_path / "in" / "b.jpg").write_text("no image")
    write_image("in/c.jpg")
    for batch_size in (1, 3):
        out = tmp_path / f"out{batch_size}"
        outcome, content = process(model, out, tmp_path / "in", batch_size=batch_size)
        assert [path.name for path in outcome.drawn] == ["000001_a.jpg", "000003_c.jpg"]
        assert len(outcome.problems) == 1 and "b.jpg" in outcome.problems[0]
        assert [Path(image["file_name"]).name for image in content["images"]] == ["a.jpg", "c.jpg"]


def test_nothing_readable_leaves_no_files(model: Model, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_text("no image")
    outcome, content = process(model, tmp_path / "out", tmp_path / "b.jpg", with_csv=True)
    assert outcome.num_images == 0 and len(outcome.problems) == 1 and content == {}
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("num_stills", "num_frames", "expected"),
    [(1, 0, "1 image"), (0, 75, "75 frames"), (2, 1, "2 images and 1 frame")],
)
def test_images_and_frames_are_counted_apart(
    num_stills: int, num_frames: int, expected: str
) -> None:
    outcome = Outcome(num_images=num_stills + num_frames, num_frames=num_frames)
    assert outcome.counted_images() == expected


def test_smallest_image(model: Model, write_image: WriteImage, tmp_path: Path) -> None:
    outcome, _ = process(model, tmp_path / "out", write_image("dot.png", 1, 1))
    assert outcome.num_images == 1 and not outcome.problems


def test_three_seconds_of_video(model: Model, tmp_path: Path) -> None:
    video = write_video(tmp_path / "people.mp4", crossing_video(0, num_frames=75))
    outcome, content = process(model, tmp_path / "out", video, track=True)
    assert not outcome.problems and [path.name for path in outcome.drawn] == ["000001_people.mp4"]
    capture = cv2.VideoCapture(str(outcome.drawn[0]))
    assert capture.get(cv2.CAP_PROP_FPS) == RATE
    frames = read_frames(outcome.drawn[0])
    assert outcome.num_images == outcome.num_frames == len(frames) == 75
    assert frames[0].shape == (HEIGHT, WIDTH, 3)

    assert [image["frame"] for image in content["images"]] == list(range(75))
    assert content["images"][50]["seconds"] == 2.0
    assert all(entry["track_id"] > 0 for entry in content["annotations"])


def test_rate_of_broadcast_video(model: Model, tmp_path: Path) -> None:
    video = write_video(tmp_path / "people.mp4", crossing_video(0, num_frames=4), rate=29.97)
    outcome, _ = process(model, tmp_path / "out", video)
    rate = cv2.VideoCapture(str(outcome.drawn[0])).get(cv2.CAP_PROP_FPS)
    assert rate == pytest.approx(29.97, abs=0.01)


def test_odd_sizes_are_made_even(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "odd.mp4", RATE) as writer:
        writer.write(np.full((67, 91, 3), 200, np.uint8))
    frame = read_frames(tmp_path / "odd.mp4")[0]
    assert frame.shape == (68, 92, 3) and frame.min() > 150


def test_first_frames(model: Model, tmp_path: Path) -> None:
    video = write_video(tmp_path / "people.mp4", crossing_video(0, num_frames=9))
    outcome, content = process(model, tmp_path / "out", video, max_frames=4, draw=False)
    assert len(content["images"]) == 4 and outcome.drawn == [] and outcome.problems == []


def test_truncated_videos(model: Model, tmp_path: Path, write_image: WriteImage) -> None:
    """Without its index an mp4 holds nothing; of an avi the beginning is read."""
    mp4 = write_video(tmp_path / "a.mp4", crossing_video(0, num_frames=9))
    mp4.write_bytes(mp4.read_bytes()[:-400])
    avi = tmp_path / "b.avi"
    writer = cv2.VideoWriter(str(avi), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for frame, _ in crossing_video(0, num_frames=40):
        writer.write(frame)
    writer.release()
    avi.write_bytes(avi.read_bytes()[: avi.stat().st_size // 2])

    image = write_image("c.jpg")
    outcome, content = process(model, tmp_path / "out", mp4, avi, image)
    assert [problem.split(": ")[0] for problem in outcome.problems] == [str(mp4), str(avi)]
    assert " of 40 " in outcome.problems[1]
    assert [path.name for path in outcome.drawn] == ["000002_b.mp4", "000003_c.jpg"]
    frames = [one for one in content["images"] if one["file_name"] == str(avi)]
    assert 5 < len(frames) < 30 and len(read_frames(outcome.drawn[0])) == len(frames)


def test_no_video_and_no_camera(model: Model, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    outcome, _ = process(model, tmp_path / "out", tmp_path / "text.mp4", "97")
    assert len(outcome.problems) == 2
    assert "text.mp4" in outcome.problems[0] and "camera 97" in outcome.problems[1]


def test_interrupted_run_keeps_its_files(
    model: Model, write_image: WriteImage, tmp_path: Path
) -> None:
    for name in "abc":
        write_image(f"in/{name}.jpg")
    seen = []

    def show(image: np.ndarray) -> bool:
        seen.append(image)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return True

    outcome, content = process(model, tmp_path / "out", tmp_path / "in", show=show)
    assert outcome.was_interrupted and len(content["images"]) == 2
    assert [path.name for path in outcome.drawn] == ["000001_a.jpg"]


def test_closing_the_window_ends_the_run(
    model: Model, write_image: WriteImage, tmp_path: Path
) -> None:
    for name in "abc":
        write_image(f"in/{name}.jpg")
    outcome, content = process(model, tmp_path / "out", tmp_path / "in", show=lambda _: False)
    assert not outcome.was_interrupted and len(content["images"]) == 1


def test_model_of_another_skeleton(
    six_keypoints_file: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    six = load(six_keypoints_file, "cpu")
    _, content = process(six, tmp_path / "out", write_image("a.jpg"), with_csv=True)
    assert content["categories"][0]["keypoints"] == list(six.names) and len(six.names) == 6
    assert all(len(entry["keypoints"]) == 18 for entry in content["annotations"])


def test_live_video_lasts_as_long_as_the_recording(tmp_path: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with VideoWriter(tmp_path / "live.mp4", rate=10.0, is_live=True) as writer:
        for now in (100.0, 100.5, 100.51, 101.0):
            writer.write(image, now)
    assert writer.num_written == 11 and len(read_frames(tmp_path / "live.mp4")) == 11


def test_a_thousand_frames_in_flat_memory(model: Model, tmp_path: Path) -> None:
    """Kept frames would add 46 MB between frame 200 and 1,000."""
    path = tmp_path / "long.mp4"
    with VideoWriter(path, RATE) as writer:
        for number in range(1000):
            writer.write(np.full((120, 160, 3), number % 256, np.uint8))
    found = model(np.zeros((64, 64, 3), np.uint8))
    memory = []

    class FixedModel:
        """The same people in every frame."""

        cfg = model.cfg
        skeleton = model.skeleton

        def __call__(self, images: list[np.ndarray], batch_size: int) -> list[People]:
            return [found] * len(images)

    def show(image: np.ndarray) -> bool:
        memory.append(resident_megabytes())
        return True

    fixed = cast(Model, FixedModel())
    outcome, _ = process(fixed, tmp_path / "out", path, show=show, track=True, with_csv=True)
    assert outcome.num_images == len(memory) == 1000
    assert memory[-1] - memory[200] < 10


def resident_megabytes() -> float:
    """Of this process; Linux alone."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc, which only Linux has")
    pages = int(statm.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
