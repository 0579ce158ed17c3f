"""One export: read the model file, write the file, compare it with PyTorch, give it its name.

A file that differs from PyTorch never gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

import duopose
from duopose.datasets.sample_data.scene import DEFAULT_STYLE, draw_scene
from duopose.errors import UserError
from duopose.export.compare import (
    MAX_DIFFERENCE,
    MapDifference,
    PeopleDifference,
    Speed,
    checked_shapes,
    map_differences,
    measure_speed,
    people_difference,
)
from duopose.export.description import describe
from duopose.export.export_formats import EXAMPLE_SHAPE, FORMATS, ExportFormat, require_packages
from duopose.inference.image_inputs import ImageLike, to_rgb_array
from duopose.inference.model import Model, read_calibration
from duopose.network.exported_file import TORCHSCRIPT_SUFFIX, is_exported
from duopose.network.flat_network import FlatNetwork, map_names, output_of_maps
from duopose.skeletons import COCO
from duopose.types import NetworkOutput

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
NUM_DRAWN = 8  # images for the comparison of people where none are given


@dataclass(frozen=True)
class ExportResult:
    """The files, and how they compare with PyTorch."""

    files: tuple[Path, ...]  # the one to load last
    maps: tuple[MapDifference, ...]
    people: PeopleDifference
    speed: Speed | None


def export_model(
    source: Path,
    format_name: str,
    target: Path | None = None,
    settings: Sequence[Any] = (),
    images: Sequence[ImageLike] = (),
    repeats: int = 7,
) -> ExportResult:
    """Export a model file and compare the result with it, on the CPU in float32.

    format_name: a key of FORMATS. target: by default `source` with the suffix of the format.
    settings: KEY, VALUE ... that differ from the file's; they become those of the exported file.
    images: on which people are compared; none: NUM_DRAWN drawn ones.
    repeats: of the measurement of speed; 0: none.
    Raises UserError if a package is missing, or the file differs by more than MAX_DIFFERENCE; then
    nothing is written.
    """
    require_packages(format_name)
    if is_exported(source):
        raise UserError(f"{source} is an exported file already; give the .pth file of the model")
    export_format = FORMATS[format_name]
    target = _target_path(source, target, export_format)
    pixels = [to_rgb_array(image) for image in images]  # errors before the long part
    model = duopose.load(source, "cpu", (*settings, "FP16.ENABLED", False))

    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        files = _write(model, source, export_format, Path(folder) / target.name)
        checked = files[-1]
        exported = _open_model(model, checked, settings)
        maps = _checked_maps(model, exported)
        people = people_difference(model, exported, pixels or drawn_images(model))
        speed = None
        if repeats:
            speed = measure_speed(
                model.predictor.network,
                lambda: _open_model(model, checked, settings).predictor.network,
                model.cfg.DATASET.INPUT_SIZE,
                repeats,
            )
        del exported  # OpenVINO keeps its .bin file open
        moved = tuple(_moved(file, target.parent) for file in files)
    return ExportResult(moved, maps, people, speed)


def images_in(folder: Path, limit: int) -> list[ImageLike]:
    """The first `limit` image files of a folder, by name; UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"--images {folder}: there is no such folder")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise UserError(f"--images {folder}: it has no {', '.join(IMAGE_SUFFIXES)} files")
    return list(files[:limit])


def drawn_images(model: Model) -> list[np.ndarray]:
    """Drawn people, as those of tools/make_sample_data.py, at the model's input size."""
    size = model.cfg.DATASET.INPUT_SIZE
    return [
        draw_scene(np.random.default_rng(number), size, COCO.keypoints, DEFAULT_STYLE)[0]
        for number in range(NUM_DRAWN)
    ]


# ---- steps ----


def _target_path(source: Path, target: Path | None, export_format: ExportFormat) -> Path:
    path = source.with_suffix(export_format.suffix) if target is None else target
    if path.suffix.lower() != export_format.suffix:
        raise UserError(f"--out {path}: the name must end in {export_format.suffix}")
    return path


def _write(model: Model, source: Path, export_format: ExportFormat, path: Path) -> list[Path]:
    network = model.predictor.network
    with torch.no_grad():
        example = network(torch.zeros(EXAMPLE_SHAPE))
    names = map_names(example, EXAMPLE_SHAPE[2])
    description = describe(model, names, read_calibration(source))
    return export_format.write(FlatNetwork(network).eval(), names, description, path)


def _open_model(model: Model, path: Path, settings: Sequence[Any]) -> Model:
    """The model of an exported file, as `duopose.load` gives it.

    Of a TorchScript file, which it does not load: `model` with the network in the file.
    """
    if path.suffix != TORCHSCRIPT_SUFFIX:
        return duopose.load(path, "cpu", settings)
    predictor = replace(model.predictor, network=TorchScriptNetwork(path).eval())
    return replace(model, predictor=predictor)


class TorchScriptNetwork(nn.Module):
    """The network in a TorchScript file of our own, for the comparison."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        texts = {"maps": ""}
        self.module = torch.jit.load(str(path), map_location="cpu", _extra_files=texts)
        maps: str | bytes = texts["maps"]
        self.names = (maps.decode() if isinstance(maps, bytes) else maps).split()

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """As `PoseNet.forward`."""
        return output_of_maps(self.names, self.module(images))


def _checked_maps(model: Model, exported: Model) -> tuple[MapDifference, ...]:
    """The differences; UserError where one is too large."""
    shapes = checked_shapes(model.cfg.DATASET.INPUT_SIZE)
    maps = map_differences(model.predictor.network, exported.predictor.network, shapes)
    worst = max(maps, key=lambda one: one.value)
    if not worst.value <= MAX_DIFFERENCE:
        batch, height, width = worst.shape
        raise UserError(
            f"the exported network differs from PyTorch by {worst.value:.2g} (relative, in "
            f"{worst.name} at {batch} x {height}x{width}); allowed is {MAX_DIFFERENCE:g}. "
            "Nothing was written"
        )
    return tuple(maps)


def _moved(file: Path, folder: Path) -> Path:
    path = folder / file.name
    os.replace(file, path)
    return path
