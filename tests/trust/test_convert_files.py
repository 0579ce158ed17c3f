"""Hostile files for tools/convert.py: one sentence, nothing outside is read, nothing is written."""

from __future__ import annotations

import json
import os
import runpy
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.datasets.labelled_formats import (
    KEYPOINTS,
    write_cvat,
    write_deeplabcut,
    write_labelme,
    write_yolo,
)

from duopose import xml_files
from duopose.datasets.prepare import labelled_people, labelled_to_coco

PROJECT = Path(__file__).resolve().parents[2]
convert: Callable[[list[str]], int] = runpy.run_path(str(PROJECT / "tools" / "convert.py"))["main"]
SOURCES = {"labelme": "a.json", "cvat": "a.xml", "yolo": "a.yaml", "deeplabcut": "a.csv"}
PNG = b"\x89PNG\r\n\x1a\n"


class Run:
    """Calls the tool; the output file is `out`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = folder / "made" / "train.json"
        self.capsys = capsys

    def refused(self, *words: object) -> str:
        """The one sentence of an error; nothing has been written."""
        code = convert([*map(str, words), "--out", str(self.out)])
        message = self.capsys.readouterr().err
        assert code == 2 and message.startswith("error: ") and message.count("\n") == 1
        assert not self.out.parent.exists()
        return message

    def accepted(self, *words: object) -> list[str]:
        """The names of the images."""
        assert convert([*map(str, words), "--out", str(self.out)]) == 0
        return [image["file_name"] for image in json.loads(self.out.read_bytes())["images"]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def make_special(path: Path, kind: str) -> None:
    """What is no usable file in the place of one."""
    path.unlink(missing_ok=True)
    targets = {"device": "/dev/zero", "dangling": "nowhere", "loop": path.name}
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**42)
    else:
        path.symlink_to(targets[kind])


SPECIAL = ["fifo", "folder", "large", "device", "dangling", "loop"]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("program", SOURCES)
def test_a_source_that_is_no_usable_file(tmp_path: Path, run: Run, program: str, kind: str) -> None:
    source = tmp_path / SOURCES[program]
    make_special(source, kind)
    assert SOURCES[program] in run.refused(program, source)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("program", ["labelme", "yolo", "deeplabcut"])
def test_files_below_a_folder_that_are_not_usable(
    tmp_path: Path, run: Run, program: str, kind: str
) -> None:
    """A file of labels beside good ones."""
    folder = tmp_path / "labels"
    source: Path = folder
    if program == "labelme":
        write_labelme(folder)
        path = folder / "b.json"
    elif program == "yolo":
        source = write_yolo(folder)
        path = folder / "labels" / "train" / "b.txt"
    else:
        write_deeplabcut(folder, animals=False)
        path = folder / "CollectedData_you.csv"
    make_special(path, kind)
    assert path.name in run.refused(program, source)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("program", ["labelme", "yolo", "deeplabcut"])
def test_images_that_are_not_usable(tmp_path: Path, run: Run, program: str, kind: str) -> None:
    source, image = written(program, tmp_path / "labels")
    make_special(image, kind)
    assert image.name in run.refused(program, source)


def written(program: str, folder: Path) -> tuple[Path, Path]:
    """A source whose reader needs the sizes of the images, and one of the images."""
    if program == "yolo":
        return write_yolo(folder), folder / "images" / "train" / "b.png"
    if program == "deeplabcut":
        write_deeplabcut(folder, animals=False)
        return folder, folder / "b.png"
    write_labelme(folder)
    path = folder / "b.json"
    content = json.loads(path.read_text())
    del content["imageWidth"]
    path.write_text(json.dumps(content))
    return folder, folder / "b.png"


def png_header(width: int, height: int) -> bytes:
    return PNG + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        png_header(10, 10),
        png_header(0, 10),
        png_header(2**31, 2**31),
        b"\xff\xd8",
    ],
)
@pytest.mark.parametrize("program", ["labelme", "yolo", "deeplabcut"])
def test_damaged_images(tmp_path: Path, run: Run, program: str, content: bytes) -> None:
    source, image = written(program, tmp_path / "labels")
    image.write_bytes(content)
    assert image.name in run.refused(program, source)


@pytest.mark.parametrize("program", ["labelme", "yolo", "deeplabcut"])
def test_links_out_of_a_folder(tmp_path: Path, run: Run, program: str) -> None:
    """Of images; with --outside-links they are followed."""
    source, image = written(program, tmp_path / "labels")
    canary = tmp_path / "outside.png"
    image.rename(canary)
    image.symlink_to(canary)
    assert "--outside-links" in run.refused(program, source)
    assert run.accepted(program, source, "--outside-links") == ["a.png", "b.png"]


def test_links_out_of_a_folder_of_labels(tmp_path: Path, run: Run) -> None:
    folder = write_labelme(tmp_path / "labels")
    (folder / "b.json").rename(tmp_path / "secret.json")
    (folder / "b.json").symlink_to("../secret.json")
    assert "leads out" in run.refused("labelme", folder)

    (tmp_path / "alias").symlink_to("labels")  # of the user
    (folder / "b.json").unlink()
    assert run.accepted("labelme", tmp_path / "alias") == ["a.png"]


@pytest.mark.parametrize("name", ["images", "labels"])
def test_folders_of_yolo_that_lead_out(tmp_path: Path, run: Run, name: str) -> None:
    source = write_yolo(tmp_path / "yolo")
    (tmp_path / "yolo" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "yolo" / name).symlink_to(tmp_path / "elsewhere")
    assert "leads out" in run.refused("yolo", source)
    names = run.accepted("yolo", source, "--outside-links", "--keypoints", *KEYPOINTS)
    assert names == ["a.png", "b.png"]


# ---- contents ----

POINT = '{"label": "n", "shape_type": "point", "points": [[1, 1]]}'
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        DEEP, f'{{"shapes": {DEEP}}}', '{"shapes": ' + "9" * 5000 + "}", '{"shapes": [NaN]}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [[1, Infinity]]}]}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [["1_0", 1]]}]}',
        f'{{"shapes": [{POINT}], "imagePath": "../../x.png", "imageWidth": -1, "imageHeight": 1}}',
        f'{{"shapes": [{POINT}], "imagePath": "x\\u0000.png"}}',
        f'{{"shapes": [{POINT}], "imagePath": "/etc/passwd"}}',
    ],
)  # fmt: skip
def test_labelme_texts(tmp_path: Path, run: Run, text: str) -> None:
    source = tmp_path / "a.json"
    source.write_text(text)
    assert "a.json" in run.refused("labelme", source)


def test_json_beyond_the_limit(tmp_path: Path, run: Run) -> None:
    folder = write_labelme(tmp_path / "labels")
    assert "--json-gb" in run.refused("labelme", folder, "--json-gb", 1e-7)


def test_texts_that_are_no_utf8(tmp_path: Path, run: Run) -> None:
    for program, name in SOURCES.items():
        (tmp_path / name).write_bytes(b"\xff\xfe\x00a,b\n")
        assert name in run.refused(program, tmp_path / name)


NOSE = '<points label="nose" points="1,2"/>'
IMAGE = f'<image name="a.png" width="8" height="6">{NOSE}</image>'


@pytest.mark.parametrize(
    "text",
    [
        f"<annotations>{IMAGE}", f"<annotations>{IMAGE}</annotations><more/>", f"{IMAGE}",
        f"<annotations>{IMAGE}<!DOCTYPE a></annotations>",
        f'<!DOCTYPE annotations SYSTEM "http://x/y.dtd"><annotations>{IMAGE}</annotations>',
        "<annotations>" + "<a>" * 10_000 + "</a>" * 10_000 + "</annotations>",
        f"<annotations><image>{'<a/>' * 3000}</image></annotations>",
        f'<annotations><image name="{"a" * 100_000}" width="8" height="6"/></annotations>',
        f'<annotations><image name="a" width="{"9" * 9000}" height="6"/></annotations>',
        f"<annotations>{IMAGE}&undefined;</annotations>", "<annotations>\0</annotations>",
        f"<annotations>{IMAGE}\ud800</annotations>", f"<other>{IMAGE}</other>",
    ],
)  # fmt: skip
def test_cvat_texts(tmp_path: Path, run: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_files, "MAX_ELEMENTS", 1000)
    source = tmp_path / "a.xml"
    source.write_bytes(text.encode(errors="surrogatepass"))
    assert "a.xml" in run.refused("cvat", source)


def test_an_endless_tag(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_files, "MAX_TOKEN", 2**20)
    source = tmp_path / "a.xml"
    source.write_text(f'<annotations><image name="{"a" * 2**22}')
    assert "1 MB" in run.refused("cvat", source)


def test_a_large_cvat_file_is_read_image_by_image(tmp_path: Path, run: Run) -> None:
    """Larger than the pieces that are parsed at a time."""
    text = write_cvat(tmp_path / "a.xml").read_text()
    (image,) = [part for part in text.split("</image>") if 'name="a.png"' in part]
    body = image[image.index('name="a.png"') + 12 :]
    images = [f'<image id="0" name="{number}.png"{body}</image>' for number in range(700)]
    (tmp_path / "a.xml").write_text(f"<annotations>{''.join(images)}</annotations>")
    assert (tmp_path / "a.xml").stat().st_size > 2 * xml_files.PIECE
    assert len(run.accepted("cvat", tmp_path / "a.xml")) == 700


def test_csv_texts(tmp_path: Path, run: Run) -> None:
    start = "scorer,s,s\nbodyparts,nose,nose\ncoords,x,y\n"
    source = tmp_path / "a.csv"
    for row in ("a\0.png,1,2", f"{'a' * 200_000},1,2", '"a.png,1,2', "a.png,1_0,2", "a.png,nan,2"):
        source.write_text(f"{start}{row}\n")
        assert "a.csv" in run.refused("deeplabcut", source)


def test_yaml_bombs(tmp_path: Path, run: Run) -> None:
    source = write_yolo(tmp_path / "yolo")
    text = source.read_text()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    for bomb in ("\n".join(lines), "kpt_shape: " + "9" * 10**5, "a: " + "[" * 1000, "a: !!set {b}"):
        source.write_text(f"{text}\n{bomb}\n")
        assert "data.yaml" in run.refused("yolo", source)


def test_images_and_points_are_counted(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_labelme(tmp_path / "labels")
    places = [
        (labelled_people, "MAX_IMAGES", 1),
        (labelled_people, "MAX_POINTS", 10),
        (labelled_to_coco, "MAX_VALUES", 10),
    ]
    for module, name, value in places:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert "parts" in run.refused("labelme", folder)


def test_points_and_boxes_without_groups_are_bounded(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = '{"label": "person", "shape_type": "rectangle", "points": [[0, 0], [9, 9]]}'
    shapes = ", ".join([box] * 20 + [POINT] * 20)
    source = tmp_path / "a.json"
    source.write_text(
        f'{{"shapes": [{shapes}], "imagePath": "a", "imageWidth": 9, "imageHeight": 9}}'
    )
    monkeypatch.setattr(labelled_people, "MAX_PAIRS", 100)
    assert "20 keypoints" in run.refused("labelme", source)


def test_a_folder_of_many_kinds_of_images_is_converted(tmp_path: Path, run: Run) -> None:
    """Valid files: grey, 16 bits, alpha, JPEG, WebP, TIFF, BMP."""
    source = write_yolo(tmp_path / "yolo")
    folder = tmp_path / "yolo" / "images" / "train"
    rng = np.random.default_rng(0)
    for name in ("c.jpg", "d.webp", "e.tif", "f.bmp"):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    cv2.imwrite(str(folder / "g.png"), rng.integers(0, 255, (20, 30), dtype=np.uint8))
    cv2.imwrite(str(folder / "h.png"), rng.integers(0, 2**16, (20, 30), dtype=np.uint16))
    cv2.imwrite(str(folder / "i.png"), rng.integers(0, 255, (20, 30, 4), dtype=np.uint8))
    names = run.accepted("yolo", source, "--keypoints", *KEYPOINTS)
    assert [name[0] for name in names] == list("abcdefghi")

    records = json.loads(run.out.read_bytes())["images"]
    assert {(one["width"], one["height"]) for one in records[2:]} == {(30, 20)}
