"""Checks of the image files against the annotations."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from duopose.datasets.annotations import AnnotationFile, Record
from duopose.datasets.check.findings import Findings
from duopose.datasets.image_files import ImageSource, decode_image
from duopose.errors import UserError

START_OF_JPEG, END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"


def check_files_exist(file: AnnotationFile, images: ImageSource, findings: Findings) -> None:
    """Images listed but missing; a notice of files that no annotation file entry names."""
    try:
        there = images.names()
    except UserError as error:
        findings.problem(str(error))
        return
    named = {image["file_name"] for image in file.images if isinstance(image.get("file_name"), str)}
    for image in file.images:
        if isinstance(image.get("file_name"), str) and image["file_name"] not in there:
            findings.problem(
                f"the file of an image is not in {images.path}",
                "image",
                f"{image.get('id')} ({image['file_name']})",
            )
    for name in sorted(there - named):
        findings.notice(
            f"files in {images.path} are not in 'images' and will not be used", "file", name
        )


def check_files(
    file: AnnotationFile,
    images: ImageSource,
    findings: Findings,
    threads: int = 2,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Decode every image: unreadable, cut off, of another size than annotated. `progress` is told how many are done and of how many."""
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        sentences = pool.map(lambda record: _problem_of(record, images), file.images)
        for done, (image, sentence) in enumerate(zip(file.images, sentences, strict=True), start=1):
            if sentence:
                findings.problem(sentence, "image", f"{image.get('id')} ({image.get('file_name')})")
            if progress:
                progress(done, len(file.images))


def _problem_of(image: Record, images: ImageSource) -> str:
    """A sentence, or nothing where the file is right; missing files are told by `check_files_exist`."""
    name = image.get("file_name")
    if not isinstance(name, str):
        return ""
    try:
        content = images.read_bytes(name)
    except (OSError, KeyError, UserError):
        return ""
    except Exception:  # zipfile raises many kinds for a damaged member
        return "the file of an image cannot be unpacked"
    if content[:2] == START_OF_JPEG and END_OF_JPEG not in content[-2048:]:
        return "the file is cut off: a JPEG without its end"
    decoded = decode_image(content)
    if decoded is None:
        return "the file cannot be read as an image"
    height, width = decoded.shape[:2]
    if (width, height) == (image.get("width"), image.get("height")):
        return ""
    if (height, width) == (image.get("width"), image.get("height")):
        return "width and height are exchanged between file and annotation (an image turned by its camera's note?)"
    return "the file has another size than 'width' and 'height' say"
