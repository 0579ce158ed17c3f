"""What a source is taken for, the order of its items, and sources that are none."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.predict.conftest import WriteImage

from duopose import image_files
from duopose.errors import UserError
from duopose.image_files import ImageLimits, safe_stem
from duopose.predict.sources import ImageItem, VideoItem, find_items


def names(*given: object) -> list[str]:
    return [item.name for item in find_items([str(one) for one in given])]


def test_folder_with_sub_folders_in_natural_order(write_image: WriteImage, tmp_path: Path) -> None:
    for name in ("f/shot_10.jpg", "f/shot_2.JPG", "f/sub/a.png", "f/.hidden/b.png", "f/.c.jpg"):
        write_image(name)
    (tmp_path / "f" / "notes.txt").write_text("no image")
    folder = tmp_path / "f"
    expected = [folder / "shot_2.JPG", folder / "shot_10.jpg", folder / "sub" / "a.png"]
    assert names(folder) == [str(path) for path in expected]


def test_glob_several_sources_and_kinds(write_image: WriteImage, tmp_path: Path) -> None:
    paths = [write_image(f"g/{name}.jpg") for name in "ab"]
    (tmp_path / "g" / "clip.MP4").touch()
    items = find_items([f"{tmp_path}/g/*", str(paths[1])])
    assert [item.name for item in items] == [
        *map(str, paths),
        f"{tmp_path}/g/clip.MP4",
        items[1].name,
    ]
    assert [type(item) for item in items] == [ImageItem, ImageItem, VideoItem, ImageItem]


def test_cameras_and_streams_without_their_password() -> None:
    camera, stream = find_items(["0", "rtsp://user:secret@host:554/live?token=x"])
    assert isinstance(camera, VideoItem) and camera.address == 0 and camera.is_live
    assert isinstance(stream, VideoItem) and stream.name == "rtsp://host:554/live"
    assert stream.address == "rtsp://user:secret@host:554/live?token=x" and stream.is_live


def test_numbers_of_thousands_of_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int() refuses them; members of a zip may have such names."""
    monkeypatch.chdir(tmp_path)
    numbers = ["0010", "9" * 5000, "8" * 5000, "02", "1"]
    with zipfile.ZipFile("a.zip", "w") as archive:
        for number in numbers:
            archive.writestr(f"{number}.png", b"")
    stems = [name.removeprefix("a.zip/")[:-4] for name in names("a.zip")]
    assert stems == ["1", "02", "0010", "8" * 5000, "9" * 5000]
    with pytest.raises(UserError):
        find_items(["99999"])


def test_a_file_whose_name_is_a_number_is_no_camera(
    write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image("image.jpg").rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    assert isinstance(find_items(["0"])[0], ImageItem)


def test_zip_is_read_in_memory(write_image: WriteImage, tmp_path: Path) -> None:
    image = write_image("a.jpg").read_bytes()
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("b/10.jpg", "b/9.jpg", "../../escaped.jpg", "__MACOSX/b/9.jpg", "notes.txt"):
            archive.writestr(name, image)
    items = find_items([str(path)])
    assert [item.name for item in items] == [
        f"{path}/../../escaped.jpg", f"{path}/b/9.jpg", f"{path}/b/10.jpg",
    ]  # fmt: skip
    assert all(isinstance(item, ImageItem) and item.read().shape == (70, 90, 3) for item in items)
    assert not list(tmp_path.parent.parent.glob("escaped*"))


def test_large_member_of_a_zip(write_image: WriteImage, tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(write_image("a.jpg"), "a.jpg")
    item = find_items([str(path)])[0]
    with pytest.raises(UserError, match="bytes"):
        assert isinstance(item, ImageItem) and item.read(ImageLimits(max_bytes=100))


@pytest.mark.parametrize("name", ["empty", "texts", "none/*.jpg", "missing.jpg", "broken.zip"])
def test_sources_without_images(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=name.replace("*", r"\*")):
        find_items([str(tmp_path / name)])


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 no end"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    item = find_items([str(path)])[0]
    with pytest.raises(UserError):
        assert isinstance(item, ImageItem) and item.read()


def test_truncated_jpeg_also_with_a_thumbnail(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    _, encoded = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])
    whole = encoded.tobytes()
    with_thumbnail = whole[:2] + b"\xff\xe1\x00\x06\xff\xd9\x00\x00" + whole[2:]
    assert len(whole) > 1 << 17 and image_files.decode_image(with_thumbnail).shape == (400, 400, 3)
    for content in (whole[:-2000], with_thumbnail[:-2000]):
        with pytest.raises(UserError):
            image_files.decode_image(content)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "phone.jpg", exif=exif)
    item = find_items([str(tmp_path / "phone.jpg")])[0]
    assert isinstance(item, ImageItem) and item.read().shape == (40, 20, 3)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (20_000, 900), (900, 20_000)])
def test_panoramas_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    header = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    fields = header[12:16] + size + header[24:29]  # the size is in the header, without pixels
    content = header[:12] + fields + zlib.crc32(fields).to_bytes(4, "big") + header[33:]
    item = ImageItem("panorama", lambda max_bytes: content)
    with pytest.raises(UserError, match="long side" if height != width else "million"):
        item.read(ImageLimits(max_pixels=300_000_000))
    image_files.check_aspect(20_000, 2_000, 12)
    image_files.check_size(20_000, 2_000, ImageLimits())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b/street.jpg", "street"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\..\\..", "image"),
        ("zip/../../été à Paris!.jpg", "t_Paris"),
        ("photos/", "photos"),
        (".jpg", "jpg"),
        ("a\x00b\n.png", "a_b"),
        ("x" * 300 + ".jpg", "x" * 60),
        ("", "image"),
    ],
)
def test_names_of_outputs_are_safe(name: str, stem: str) -> None:
    assert safe_stem(name) == stem
    assert os.sep not in safe_stem(name)
