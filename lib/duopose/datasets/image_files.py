"""Reading images, from a folder or from a zip, as (H, W, 3) uint8 RGB."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from duopose.errors import UserError

# Annotations are made on the stored pixels, so a camera's note on how to turn them is not obeyed (nor does the family obey it).
READ_FLAGS = (
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if hasattr(cv2, "IMREAD_COLOR_RGB")
    else None
)


class ImageSource(Protocol):
    """Where images come from. Both kinds may be sent to other processes, forked or spawned."""

    path: Path

    def read_bytes(self, name: str) -> bytes:
        """The file's content; OSError or KeyError where there is none."""
        ...

    def names(self) -> set[str]:
        """The names that `read_bytes` knows."""
        ...


class FolderImages:
    """Images that are files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_bytes(self, name: str) -> bytes:
        """The file's content; OSError where there is none."""
        return (self.path / name).read_bytes()

    def names(self) -> set[str]:
        """Paths relative to the folder, with forward slashes."""
        found: set[str] = set()
        for folder, _, files in os.walk(self.path):
            below = Path(folder).relative_to(self.path)
            found.update((below / file).as_posix() for file in files)
        return found


class ZipImages:
    """Images inside a zip; each process opens it for itself, since an open file shared after a fork would jump about.

    A name may lie at the top of the zip or inside its only folder, as `train2017/` in COCO's own train2017.zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, tuple[zipfile.ZipFile, dict[str, str]]] = {}

    def read_bytes(self, name: str) -> bytes:
        """The member's content; KeyError where there is none."""
        archive, members = self._open()
        return archive.read(members[name])

    def names(self) -> set[str]:
        """Names of the members, without the zip's only folder."""
        return set(self._open()[1])

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, str]]:
        process = os.getpid()
        if process not in self._opened:
            try:
                archive = zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{self.path} cannot be opened as a zip of images: {error}"
                ) from error
            self._opened = {process: (archive, _short_names(archive))}
        return self._opened[process]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": {}}


def _short_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Name without the zip's only folder -> member."""
    members = [name for name in archive.namelist() if not name.endswith("/")]
    tops = {name.split("/", 1)[0] for name in members}
    common = len(f"{tops.pop()}/") if len(tops) == 1 and all("/" in name for name in members) else 0
    return {name[common:]: name for name in members}


def read_image(source: ImageSource, name: str, image_id: int | str) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB; UserError naming file and image id where it is missing or cannot be decoded."""
    where = f"image {name} (id {image_id}) in {source.path}"
    try:
        content = source.read_bytes(name)
    except (OSError, KeyError) as error:
        raise UserError(f"{where} is missing; tools/check_data.py lists all that are") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} is damaged: {error}") from error
    image = decode_image(content)
    if image is None:
        raise UserError(
            f"{where} cannot be read as an image ({len(content)} bytes); tools/check_data.py lists all such files"
        )
    return image


def decode_image(content: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of a JPEG, PNG ... file's bytes, or None where they are no image."""
    if not content:
        return None
    buffer = np.frombuffer(content, dtype=np.uint8)
    if READ_FLAGS is not None:
        return cv2.imdecode(buffer, READ_FLAGS)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
