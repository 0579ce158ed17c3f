"""Three lines from a model file to people: kinds of images, lists, settings, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import duopose
from duopose.config import config_text, load_config
from duopose.errors import UserError
from duopose.inference.image_inputs import to_rgb_array
from duopose.network.model_file import default_model_file
from duopose.skeletons import COCO, get_skeleton

WriteModel = Callable[..., Path]
PROJECT = Path(__file__).resolve().parents[2]
SIX_KEYPOINTS = PROJECT / "docs" / "examples" / "six_keypoints.yaml"


@pytest.fixture
def model(write_model: WriteModel) -> duopose.Model:
    return duopose.load(write_model(), device="cpu")


def same(one: duopose.People, two: duopose.People, tolerance: float = 0.0) -> bool:
    """Whether two `People` hold the same people."""
    return len(one) == len(two) and all(
        np.allclose(getattr(one, name), getattr(two, name), rtol=0, atol=tolerance)
        for name in ("keypoints", "scores", "filled")
    )


def test_three_lines(model: duopose.Model, images: list[np.ndarray]) -> None:
    people = model(images[0])
    assert len(people) > 3 and people.keypoints.shape == (len(people), 17, 3)
    assert people.scores.shape == (len(people),) and people.filled.shape == (len(people), 17)
    assert people.names == COCO.keypoints and people.skeleton == COCO
    found = people.keypoints[..., 2] > 0
    assert found.any() and (people.keypoints[~found] == 0).all()
    assert (people.scores[:-1] >= people.scores[1:]).all()
    assert "17" in repr(people) and "coco" in repr(people) and "tiny.pth" in repr(model)


def test_path_array_and_pil_image_are_the_same(
    model: duopose.Model, images: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(images[0]).save(path)
    expected = model(images[0])
    for image in (path, str(path), Image.open(path)):
        assert same(model(image), expected)


def test_list_is_in_order(model: duopose.Model, images: list[np.ndarray]) -> None:
    people = model(images)
    assert isinstance(people, list) and len(people) == 5
    for one, image in zip(people, images, strict=True):
        assert same(one, model(image))
    assert len(model(tuple(images[:1]))) == 1


def test_a_batch_gives_the_same_people(write_model: WriteModel, images: list[np.ndarray]) -> None:
    # Without the sub-pixel step, which divides by the curvature of flat random heatmaps.
    model = duopose.load(write_model(), "cpu", ("TEST.ADJUST", False))
    batches: list[int] = []
    model.predictor.network.register_forward_hook(
        lambda _module, inputs, _output: batches.append(len(inputs[0]))
    )
    people = model(images, batch_size=2)
    assert sorted(batches) == [1, 1, 2, 2, 2, 2]  # plain and mirrored
    for one, image in zip(people, images, strict=True):
        assert same(one, model(image), tolerance=1e-4)


def test_settings_over_those_of_the_file(write_model: WriteModel, images: list[np.ndarray]) -> None:
    path = write_model(("TEST.FLIP_TEST", True))
    settings = ("TEST.PRESET", "clean", "TEST.FLIP_TEST", False, "TEST.MAX_PEOPLE", 2)
    model = duopose.load(path, "cpu", settings)
    assert model.predictor.flip_test is False and model.cfg.TEST.PRESET == "clean"
    people = model(images[0])
    assert len(people) <= 2 and not people.filled.any()
    assert duopose.load(path, "cpu").predictor.flip_test is True


def test_the_files_skeleton_is_used_after_its_yaml_is_gone(
    write_model: WriteModel, images: list[np.ndarray], tmp_path: Path
) -> None:
    skeleton_file = tmp_path / "six.yaml"
    skeleton_file.write_text(SIX_KEYPOINTS.read_text())
    skeleton = get_skeleton(str(skeleton_file))
    path = write_model(("DATASET.SKELETON", str(skeleton_file)), skeleton)
    skeleton_file.unlink()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    people = duopose.load(path.rename(elsewhere / "moved.pth"), "cpu")(images[0])
    assert people.names == skeleton.keypoints and people.keypoints.shape[1] == 6


def test_settings_of_the_old_format(
    write_model: WriteModel, images: list[np.ndarray], tiny_settings: tuple[object, ...]
) -> None:
    """A config as earlier versions wrote it: with old keys, without later ones."""
    cfg = load_config(None, [*tiny_settings, "TEST.DETECTION_THRESHOLD", 0.05])
    lines = config_text(cfg).splitlines()
    lines = [line for line in lines if "MAX_PEOPLE" not in line]
    lines.insert(lines.index("TEST:") + 1, "  MAX_NUM_PEOPLE: 1")
    lines += ["RANK: 0", "PIN_MEMORY: true"]
    model = duopose.load(write_model(config="\n".join(lines)), "cpu")
    assert model.cfg.TEST.MAX_PEOPLE == 1 and len(model(images[0])) == 1


def test_to_coco(model: duopose.Model, images: list[np.ndarray]) -> None:
    people = model(images[0])
    records = people.to_coco(image_id=7)
    assert len(records) == len(people)
    for record, keypoints, score in zip(records, people.keypoints, people.scores, strict=True):
        assert record["image_id"] == 7 and record["category_id"] == 1
        assert np.allclose(record["keypoints"], keypoints.ravel(), rtol=0, atol=6e-4)
        assert record["score"] == pytest.approx(score)
    assert json.loads(json.dumps(people.to_dict()))["keypoints"] == people.keypoints.tolist()


def test_to_supervision(model: duopose.Model, images: list[np.ndarray]) -> None:
    supervision = pytest.importorskip("supervision")
    found = model(images[0])
    track_ids = np.arange(1, 1 + len(found))
    people = replace(found, track_ids=track_ids)
    points = people.to_supervision()
    assert isinstance(points, supervision.KeyPoints) and len(points) == len(people)
    assert np.allclose(points.xy, people.keypoints[..., :2], atol=1e-3)
    assert np.allclose(points.keypoint_confidence, people.keypoints[..., 2])
    assert np.allclose(points.detection_confidence, people.scores)
    assert np.array_equal(points.visible, people.keypoints[..., 2] > 0)
    assert np.array_equal(points.data["tracker_id"], track_ids)
    edges = [(a + 1, b + 1) for a, b in people.skeleton.limb_index_pairs]
    drawn = supervision.EdgeAnnotator(edges=edges).annotate(images[0].copy(), points)
    assert (drawn != images[0]).any()


def test_to_supervision_of_nobody(model: duopose.Model) -> None:
    pytest.importorskip("supervision")
    nobody = duopose.People(np.zeros((0, 17, 3)), np.zeros(0), np.zeros((0, 17), bool), COCO)
    assert len(nobody.to_supervision()) == 0


def test_to_supervision_without_the_package(
    model: duopose.Model, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="supervision"):
        model(images[0]).to_supervision()


def test_default_model(write_model: WriteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model().parent
    monkeypatch.setattr(default_model_file, "__defaults__", ((folder / "none", folder),))
    with pytest.raises(UserError, match=r"duopose_\*\.pth"):
        duopose.load(device="cpu")
    for name in ("duopose_b.pth", "duopose_a.pth"):
        (folder / name).write_bytes((folder / "tiny.pth").read_bytes())
    assert duopose.load(device="cpu").load_report.path == str(folder / "duopose_a.pth")


def test_tracked_people_keep_their_colour(model: duopose.Model, images: list[np.ndarray]) -> None:
    people = model(images[0])
    first = replace(people, track_ids=np.arange(len(people)))
    renamed = replace(people, track_ids=np.arange(len(people)) + 3)
    plain = people.draw(min_score=0.0)
    assert (first.draw(min_score=0.0) != plain).any()  # the numbers
    assert (first.draw(min_score=0.0) != renamed.draw(min_score=0.0)).any()


def test_draw(model: duopose.Model, images: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), images[0][..., ::-1])
    people = model(path)
    drawn = people.draw(min_score=0.0)
    best = people.keypoints[0]
    x, y, _ = best[best[:, 2].argmax()].round().astype(int)
    assert drawn.shape == images[0].shape and drawn.dtype == np.uint8
    assert (drawn[y, x] != images[0][y, x]).any()
    assert np.array_equal(people.draw(min_score=2.0), images[0])
    assert people.draw(np.zeros((80, 100, 3), np.uint8), min_score=0.0).any()


def test_pil_images_of_other_modes() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    alpha = np.zeros((16, 16), np.uint8)
    sixteen = Image.fromarray(grey.astype(np.uint16) * 256 + 99)
    transparent = Image.fromarray(np.dstack([rgb, alpha]), "RGBA")
    for image in (Image.fromarray(grey), sixteen, transparent, Image.fromarray(grey).convert("P")):
        assert np.array_equal(to_rgb_array(image), rgb), image.mode
    with pytest.raises(UserError):
        to_rgb_array(Image.fromarray(grey.astype(np.float32)))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_file_and_its_pil_image_are_the_same(tmp_path: Path, bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 30))
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), values.astype(np.uint8 if bits == 8 else np.uint16))
    assert np.array_equal(to_rgb_array(path), to_rgb_array(Image.open(path)))


def test_exif_orientation_is_ignored(tmp_path: Path, images: list[np.ndarray]) -> None:
    image = Image.fromarray(images[0])
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    for source in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        assert to_rgb_array(source).shape == (80, 100, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        torch.zeros(3, 8, 8),
        7,
    ],
)
def test_what_is_no_image(model: duopose.Model, wrong: object) -> None:
    with pytest.raises(UserError, match="H, W, 3"):
        model(wrong)  # type: ignore[call-overload]


def test_unreadable_images_are_named(
    model: duopose.Model, images: list[np.ndarray], tmp_path: Path
) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no image")
    for wrong in (text, tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(UserError, match=wrong.name):
            model(wrong)
        with pytest.raises(UserError, match=rf"image 1 .*{wrong.name}"):
            model([images[0], wrong])
    with pytest.raises(UserError, match="image 2"):
        model([images[0], images[1], images[0][..., 0]])
    with pytest.raises(UserError):
        model([])


def test_files_that_cannot_be_loaded(write_model: WriteModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        duopose.load(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="folder"):
        duopose.load(tmp_path)
    # Contents on which the unpickler itself fails, with one error or another.
    for number, content in enumerate((b"", b"no model", b"export X", b"\x80\x02e.", b"PK\x03")):
        path = tmp_path / f"text{number}.pth"
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            duopose.load(path)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="weights"):
        duopose.load(tmp_path / "weights.pth")


def test_settings_and_devices_that_cannot_be_used(write_model: WriteModel) -> None:
    path = write_model()
    for settings in (("TEST.MAX_PEPLE", 3), ("TEST.MAX_PEOPLE", -3), ("DATASET.SKELETON", "mpii")):
        with pytest.raises(UserError, match=settings[0]):
            duopose.load(path, "cpu", settings)
    for device in ("gpu", "cuda:x"):
        with pytest.raises(UserError, match=device):
            duopose.load(path, device)


def test_import_is_cheap() -> None:
    code = (
        "import sys, duopose; print(duopose.__version__, 'torch' in sys.modules, "
        "'cv2' in sys.modules, 'load' in dir(duopose))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "lib")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == [duopose.__version__, "False", "False", "True"]
    with pytest.raises(AttributeError):
        duopose.nothing  # noqa: B018
