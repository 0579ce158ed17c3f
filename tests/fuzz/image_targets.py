"""Image files of all kinds, and zips of them."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from tests.fuzz.byte_changes import NUMBERS, changed_bytes
from tests.fuzz.fuzz_target import Target, problem_of

from duopose.datasets.split_files import ZipImages, read_image
from duopose.image_files import ImageLimits, decode_image, read_header
from duopose.inference.predictor import InputTransform, prepare_image
from duopose.predict.sources import find_items

PNG_START = 8  # bytes before the first chunk
HEAD = 64  # bytes that hold the sizes in most formats
LIMITS = ImageLimits(max_pixels=4_000_000, max_bytes=10_000_000)


def corpus() -> list[bytes]:
    """One small image of each kind."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    deep = Image.fromarray(rng.integers(0, 65536, (12, 16)).astype(np.uint16))
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image, "JPEG", {}), (image, "JPEG", {"progressive": True}),
        (image.convert("CMYK"), "JPEG", {}), (image.convert("L"), "JPEG", {}),
        (image, "PNG", {}), (image.convert("P"), "PNG", {}), (image.convert("RGBA"), "PNG", {}),
        (image.convert("1"), "PNG", {}), (deep, "PNG", {}), (image, "BMP", {}),
        (image.convert("P"), "BMP", {}), (image, "TIFF", {}),
        (image, "TIFF", {"compression": "tiff_lzw"}), (image, "TIFF", {"compression": "jpeg"}),
        (image.convert("1"), "TIFF", {"compression": "group4"}), (image, "WEBP", {}),
        (image, "WEBP", {"lossless": True}), (image, "PPM", {}), (image.convert("P"), "GIF", {}),
        (image, "JPEG2000", {}),
    ]  # fmt: skip
    files = []
    for one, kind, options in kinds:
        buffer = io.BytesIO()
        one.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def changed_image(files: list[bytes], rng: Random) -> bytes:
    """A changed image: any bytes, the sizes at its start, or the content of a PNG's chunk."""
    content = rng.choice(files)
    chance = rng.random()
    if content.startswith(b"\x89PNG") and chance < 0.5:
        return changed_png(content, rng)
    if chance < 0.75:
        return changed_bytes(content, rng)
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(min(HEAD, len(content) - 4))
        length = rng.choice((1, 2, 4))
        number = rng.choice((*NUMBERS, 16, 12, 3, 8)) % 256**length
        order = "big" if rng.random() < 0.5 else "little"
        changed[position : position + length] = number.to_bytes(length, order)
    return bytes(changed)


def changed_png(content: bytes, rng: Random) -> bytes:
    """One chunk changed, left out or repeated; the checksums are right."""
    chunks = list(png_chunks(content))
    position = rng.randrange(len(chunks))
    kind, data = chunks[position]
    changes = [[(kind, changed_bytes(data, rng))], [], [(kind, data)] * 2]
    chunks[position : position + 1] = rng.choice([changes[0], *changes])
    parts = [content[:PNG_START]]
    for kind, data in chunks:
        checksum = zlib.crc32(kind + data)
        parts += [len(data).to_bytes(4, "big"), kind, data, checksum.to_bytes(4, "big")]
    return b"".join(parts)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk."""
    position = PNG_START
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        yield content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += 12 + length


def image_target(folder: Path) -> Target:
    """An image decoded both ways, and as the network's input."""
    files = corpus()
    transform = InputTransform(32)

    def use(path: Path) -> None:
        content = path.read_bytes()
        image = decode_image(content, LIMITS)
        header = read_header(content)
        assert image.shape == (header.height, header.width, 3) and image.dtype == np.uint8
        upright = decode_image(content, LIMITS, upright=True)
        assert upright.shape in (image.shape, (image.shape[1], image.shape[0], 3))
        prepare_image(image, 1, transform)

    return Target("image", ".jpg", files[0], lambda rng: changed_image(files, rng), use)


# ---- zips ----


def zip_target(folder: Path) -> Target:
    """A zip as images of a data set, and as a source of tools/predict.py."""
    files = corpus()
    whole = zip_of(files[:2], zipfile.ZIP_STORED)
    archives = [whole, zip_of(files[4:7], zipfile.ZIP_DEFLATED), zip_of(files[:1], 0, "")]

    def make(rng: Random) -> bytes:
        if rng.random() < 0.3:
            one = changed_image(files, rng)
            return zip_of([one], rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
        archive = bytearray(rng.choice(archives))
        if rng.random() < 0.5:
            return changed_bytes(bytes(archive), rng)
        start = archive.find(b"PK\x01\x02")  # the list of members at the end
        return bytes(archive[:start]) + changed_bytes(bytes(archive[start:]), rng)

    def use(path: Path) -> None:
        source = ZipImages(path, LIMITS)
        names = sorted(source.names())
        assert source.missing(names) == []
        for name in names[:3]:
            problem_of(lambda name=name: read_image(source, name, 1))  # type: ignore[misc]
        assert find_items([str(path)])

    return Target("zip", ".zip", whole, make, use)


def zip_of(files: list[bytes], method: int, prefix: str = "train/") -> bytes:
    """A zip of these images."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number, content in enumerate(files):
            archive.writestr(f"{prefix}{number}.jpg", content)
    return buffer.getvalue()
