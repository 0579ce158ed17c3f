"""Image files and names of others: each is read as documented, or is one error; nothing hangs."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from duopose.coco_annotations import AnnotationFile
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.splits import check_files, check_files_exist
from duopose.datasets.split_files import FolderImages, ZipImages, read_image
from duopose.errors import BadSample, UserError
from duopose.image_files import (
    ImageLimits,
    check_aspect,
    decode_image,
    output_stem,
    write_image,
)
from duopose.regular_files import is_outside_name, open_to_append

Encode = Callable[[], bytes]


def smooth(width: int = 40, height: int = 30) -> np.ndarray:
    """(height, width, 3) uint8 RGB, different in each channel."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(smooth())).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header promises other pixels than it has."""
    whole = encoded("PNG")
    header = struct.pack(">II", width, height) + whole[24:29]
    return whole[:8] + chunk(b"IHDR", header) + whole[33:]


def png_with_texts() -> bytes:
    """Five texts of 7.9 MB each, in 40 kB."""
    whole = encoded("PNG")
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 7_900_000, 9))
    return whole[:33] + 5 * text + whole[33:]


def jpeg_that_claims(width: int, height: int) -> bytes:
    whole = encoded("JPEG")
    frame = whole.index(b"\xff\xc0")
    return whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 :]


def jpeg_of_many_scans() -> bytes:
    whole = encoded("JPEG", progressive=True)
    scan = whole.rindex(b"\xff\xda")
    return whole[:scan] + 200 * whole[scan:-2] + whole[-2:]


BAD_CONTENT: dict[str, Encode] = {
    "empty": lambda: b"",
    "text": lambda: b"no image at all",
    "zeros": lambda: bytes(1000),
    "start of a JPEG": lambda: b"\xff\xd8",
    "JPEG without a header": lambda: b"\xff\xd8" + b"\xff\x00" * 5000 + b"\xff\xd9",
    "JPEG of segments alone": lambda: b"\xff\xd8" + b"\xff\xe1\x00\x04ab" * 5000,
    "truncated JPEG": lambda: encoded("JPEG")[:-20],
    "half a JPEG": lambda: encoded("JPEG", progressive=True)[:500],
    "start of a PNG": lambda: encoded("PNG")[:8],
    "truncated PNG": lambda: encoded("PNG")[:-16],
    "PNG with a wrong length": lambda: encoded("PNG")[:33] + b"\xff\xff\xff\xffIDAT",
    "PNG, pixels missing": lambda: encoded("PNG")[:33] + chunk(b"IEND", b""),
    "PNG, flipped byte": lambda: encoded("PNG")[:60] + b"\x55" + encoded("PNG")[61:],
    "large PNG": lambda: png_that_claims(32_000, 32_000),
    "endless PNG": lambda: png_that_claims(2**31 - 1, 2**31 - 1),
    "long PNG": lambda: png_that_claims(40_000, 10),
    "PNG without pixels": lambda: png_that_claims(0, 10),
    "large JPEG": lambda: jpeg_that_claims(32_000, 32_000),
    "long JPEG": lambda: jpeg_that_claims(65_500, 10),
    "JPEG without height": lambda: jpeg_that_claims(40, 0),
    "JPEG of many scans": jpeg_of_many_scans,
    "large BMP": lambda: encoded("BMP")[:18] + struct.pack("<ii", 30_000, 30_000) + bytes(900),
    "large WebP": lambda: encoded("WEBP", lossless=True)[:21] + b"\xff" * 4 + bytes(100),
    "damaged GIF": lambda: encoded("GIF")[:40],
    "html": lambda: b"<!DOCTYPE html><html>404</html>",
    "pickle": lambda: pickle.dumps({"a": 1}),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
}


@pytest.mark.parametrize("name", BAD_CONTENT)
def test_what_is_no_usable_image(name: str) -> None:
    with pytest.raises(BadSample):
        decode_image(BAD_CONTENT[name]())


def colours() -> Image.Image:
    return Image.fromarray(smooth())


def sixteen_bits() -> bytes:
    deep = smooth().astype(np.uint16) * 257
    return bytes(cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes())


def with_orientation() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    return encoded("JPEG", exif=exif, quality=95)


GOOD_CONTENT: dict[str, Encode] = {
    "JPEG": lambda: encoded("JPEG", quality=95),
    "progressive JPEG": lambda: encoded("JPEG", quality=95, progressive=True),
    "JPEG with bytes behind its end": lambda: encoded("JPEG", quality=95) + bytes(3000),
    "CMYK JPEG": lambda: encoded("JPEG", colours().convert("CMYK"), quality=95),
    "EXIF orientation": with_orientation,
    "PNG": lambda: encoded("PNG"),
    "PNG with texts": png_with_texts,
    "16-bit PNG": sixteen_bits,
    "alpha PNG": lambda: encoded("PNG", colours().convert("RGBA")),
    "palette PNG": lambda: encoded("PNG", colours().quantize(250)),
    "WebP": lambda: encoded("WEBP", lossless=True),
    "BMP": lambda: encoded("BMP"),
    "TIFF": lambda: encoded("TIFF"),
    "PPM": lambda: encoded("PPM"),
}


@pytest.mark.parametrize("name", GOOD_CONTENT)
def test_kinds_of_images(name: str) -> None:
    image = decode_image(GOOD_CONTENT[name]())
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - smooth()).mean() < 6


def test_grey_alpha_and_extreme_shapes() -> None:
    grey = decode_image(encoded("PNG", colours().convert("L")))
    assert (grey[..., 0] == grey[..., 2]).all()
    deep_grey = (np.arange(1200).reshape(30, 40) * 50).astype(np.uint16)
    read = decode_image(cv2.imencode(".png", deep_grey)[1].tobytes())
    assert (read[..., 1] == deep_grey >> 8).all()
    assert decode_image(encoded("PNG", Image.new("RGB", (1, 1), "red"))).tolist() == [[[255, 0, 0]]]
    assert decode_image(encoded("PNG", Image.new("L", (20_000, 20)))).shape == (20, 20_000, 3)
    assert decode_image(with_orientation(), upright=True).shape == (40, 30, 3)


def test_limits_can_be_raised() -> None:
    content = encoded("PNG")
    with pytest.raises(BadSample, match=r"IMAGE_MEGAPIXELS"):
        decode_image(content, ImageLimits(max_pixels=1000))
    assert decode_image(content, ImageLimits(max_pixels=1200)).shape == (30, 40, 3)
    check_aspect(1200, 100, 12)
    with pytest.raises(BadSample, match=r"ASPECT"):
        check_aspect(1300, 100, 12)


# ---- names and kinds of files ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image, beside a canary that nobody may read."""
    (tmp_path / "canary.png").write_bytes(encoded("PNG"))
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(encoded("PNG"))
    (root / "sub" / "b.png").write_bytes(encoded("PNG"))
    (root / "inner_link.png").symlink_to("sub/b.png")
    (root / "outer_link.png").symlink_to(tmp_path / "canary.png")
    (root / "outer_folder").symlink_to(tmp_path)
    (root / "dangling.png").symlink_to("gone.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo.png")
    (root / "large.png").write_bytes(encoded("PNG") + bytes(5000))
    return root


GOOD_NAMES = ["a.png", "sub/b.png", "./a.png", "sub/../a.png", "inner_link.png"]
BAD_NAMES = [
    "outer_link.png", "outer_folder/canary.png", "../canary.png", "sub/../../canary.png",
    "dangling.png", "loop.png", "loop.png/x", "zero.png", "fifo.png", "large.png", "/dev/zero",
    "", ".", "..", "sub", "gone.png", "a.png/x", "a\0.png", "x" * 5000, "\udcff.png",
]  # fmt: skip


@pytest.mark.parametrize("name", [*GOOD_NAMES, *BAD_NAMES, "ABSOLUTE"])
def test_only_regular_files_inside_the_folder_are_read(folder: Path, name: str) -> None:
    if name == "ABSOLUTE":
        name = str(folder.parent / "canary.png")
    limits = ImageLimits(max_bytes=4000)
    link = folder.parent / "link_of_the_user"
    link.symlink_to(folder)
    for source in (FolderImages(folder, limits), FolderImages(link, limits)):
        if name in GOOD_NAMES:
            assert read_image(source, name, 7).shape == (30, 40, 3) and not source.missing([name])
            continue
        with pytest.raises(BadSample, match="id 7"):
            read_image(source, name, 7)
        if name != "large.png":
            assert source.missing([name]) == [name]


def test_links_that_the_user_wants(folder: Path) -> None:
    limits = ImageLimits(outside_links=True)
    source = pickle.loads(pickle.dumps(FolderImages(folder, limits)))
    for name in ("outer_link.png", "outer_folder/canary.png"):
        assert read_image(source, name, 7).shape == (30, 40, 3) and not source.missing([name])
    assert source.missing(["zero.png", "fifo.png"]) == ["zero.png", "fifo.png"]


def test_a_file_without_permission(folder: Path) -> None:
    (folder / "a.png").chmod(0)
    if os.access(folder / "a.png", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(BadSample, match="permission"):
        read_image(FolderImages(folder), "a.png", 7)


def test_check_data_finds_what_cannot_be_opened(folder: Path) -> None:
    names = ["a.png", "dangling.png", "loop.png", "fifo.png", "outer_link.png", "gone.png"]
    sizes = {"width": 40, "height": 30}
    images = [{"id": n, "file_name": name, **sizes} for n, name in enumerate(names)]
    file = AnnotationFile(folder / "a.json", images, [], [])
    findings = Findings("train")
    check_files_exist(file, FolderImages(folder), findings)
    check_files(file, FolderImages(folder), findings)
    text = "\n".join(findings.lines())
    assert "a.png)" not in text and all(f"({name})" in text for name in names[1:])


# ---- zips ----


def zip_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def patched(path: Path, offset_in_entry: int, value: bytes) -> Path:
    """The zip with bytes of its directory's first entry changed; APPNOTE.TXT, section 4.3.12."""
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02") + offset_in_entry
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


def encrypted(path: Path) -> Path:
    return patched(zip_of(path, {"a.png": encoded("PNG")}), 8, b"\x01\x00")


def unknown_method(path: Path) -> Path:
    return patched(zip_of(path, {"a.png": encoded("PNG")}), 10, b"\x61\x00")


def wrong_checksum(path: Path) -> Path:
    return patched(zip_of(path, {"a.png": encoded("PNG")}), 16, b"\0\0\0\0")


def understated_bomb(path: Path) -> Path:
    """30 MB in 30 kB that claim to be 100 bytes."""
    return patched(zip_of(path, {"a.png": bytes(30 << 20)}), 24, struct.pack("<I", 100))


def bomb(path: Path) -> Path:
    return zip_of(path, {"a.png": bytes(30 << 20)})


def lzma_member(path: Path) -> Path:
    return zip_of(path, {"a.png": encoded("PNG")}, zipfile.ZIP_LZMA)


def link_member(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return path


def no_local_header(path: Path) -> Path:
    content = zip_of(path, {"a.png": encoded("PNG")}).read_bytes()
    path.write_bytes(b"XX" + content[2:])
    return path


BAD_ZIPS = [
    encrypted, unknown_method, wrong_checksum, understated_bomb, bomb, lzma_member, link_member,
    no_local_header,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD_ZIPS, ids=lambda make: make.__name__)
def test_bad_members_of_a_zip(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = ZipImages(make(tmp_path / "images.zip"), ImageLimits(max_bytes=1 << 20))
    with pytest.raises(BadSample, match=r"a\.png \(id 7\)"):
        read_image(source, "a.png", 7)


def test_what_is_no_zip(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.png": encoded("PNG")})
    whole = path.read_bytes()
    for content in (b"", b"PK no zip", whole[:-30], whole[:-22] + b"PK\x05\x06" + b"\xff" * 18):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.zip"):
            ZipImages(path).names()


# ---- writing ----


def test_names_of_data_never_become_paths(tmp_path: Path) -> None:
    for name in ("../../x", "/etc/passwd", "a/b", "a\0b", "..", "", 7, "x" * 999):
        stem = output_stem(3, name)
        assert stem.startswith("000003_") and not set(stem) & set("/\\.\0") and len(stem) < 80
    assert is_outside_name("../a") and is_outside_name("/a") and is_outside_name("C:\\a")
    assert not is_outside_name("a/b..jpg")


def test_images_replace_links_and_failures_are_said(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("unchanged")
    link = tmp_path / "out" / "a.png"
    link.parent.mkdir()
    link.symlink_to(canary)
    write_image(link, smooth())
    assert not link.is_symlink() and canary.read_text() == "unchanged"
    assert np.array_equal(decode_image(link.read_bytes()), smooth())

    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be written"):
        write_image(tmp_path / "file" / "a.png", smooth())


def test_logs_do_not_follow_links(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.touch()
    (tmp_path / "train.log").symlink_to(canary)
    with pytest.raises(OSError, match="link"):
        open_to_append(tmp_path / "train.log")
