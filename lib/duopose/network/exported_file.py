"""Exported files as model files: what `tools/export.py` writes and `duopose.load` reads.

The description is a mapping of texts, most of them json, in the metadata of the file:

    duopose_format  1
    duopose         version that wrote the file
    keypoints       list of names: channel k of heatmaps and tags; channel K is the centre
    skeleton        the fields of a skeleton yaml
    normalisation   {"colours": "RGB", "mean": [3], "std": [3]} for values 0 .. 255
    input           {"name", "multiple": of height and width, "short_side": in pixels}
    strides         {name of maps: input pixels per cell}
    offsets         {"unit": input pixels per 1.0, "order": "y, x", "edges": [[source, target]]}
    decoder         the decoder's values, calibration included
    calibration     the fitted values, or null
    config          all settings (yaml)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from duopose.errors import UserError
from duopose.json_files import decode_json
from duopose.network.flat_network import ExportedNetwork
from duopose.network.model_file import ModelFile, read_torch_file
from duopose.network.runtimes import (
    open_onnx,
    open_openvino,
    read_onnx_description,
    read_openvino_description,
)
from duopose.yaml_files import parse_yaml

FORMAT_KEY = "duopose_format"
FORMAT = "1"
TORCHSCRIPT_SUFFIX = ".torchscript"
OPENVINO_SUFFIX = ".xml"


class Reader(NamedTuple):
    """How files of one kind are read."""

    read_description: Callable[[Path], dict[str, str]]
    open_network: Callable[[Path, torch.device], ExportedNetwork]


READERS = {
    ".onnx": Reader(read_onnx_description, open_onnx),
    OPENVINO_SUFFIX: Reader(read_openvino_description, open_openvino),
}


class ExportReport(NamedTuple):
    """Stands for the `LoadReport` of a model whose network is in the file."""

    path: str
    maps: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path} (exported network): {', '.join(self.maps)}"


def is_exported(path: str | Path) -> bool:
    """Whether the name is that of an exported file."""
    return Path(path).suffix.lower() in (*READERS, TORCHSCRIPT_SUFFIX)


def read_exported_file(path: str | Path) -> ModelFile:
    """Settings, skeleton and calibration of an exported file; the weights are not read.

    Raises UserError if it is missing, not readable, or not written by tools/export.py.
    """
    path = Path(path)
    description = _reader(path).read_description(path)
    if FORMAT_KEY not in description:
        raise UserError(
            f"'{path}' is no file of tools/export.py: its metadata has no '{FORMAT_KEY}', so its "
            "keypoints and settings are unknown; export the model anew from its .pth file"
        )
    if description[FORMAT_KEY] != FORMAT:
        raise UserError(
            f"'{path}' has the format {description[FORMAT_KEY]}, this version reads {FORMAT}; "
            "export the model anew, or update duopose"
        )

    skeleton = _json_of(description, "skeleton", path)
    calibration = _json_of(description, "calibration", path)
    if not isinstance(skeleton, dict) or not isinstance(calibration, dict | None):
        raise UserError(f"'{path}': its skeleton or calibration is no mapping; export it anew")
    extra = {} if calibration is None else {"calibration": calibration}
    return ModelFile({}, _config_of(description, path), skeleton, extra)


def read_weight_file(path: str | Path) -> dict[str, Any]:
    """The content of a torch file; of an exported file `config`, `skeleton` and `extra` alone."""
    if not is_exported(path):
        return read_torch_file(path)
    file = read_exported_file(path)
    return {"config": file.config, "skeleton": file.skeleton, "extra": file.extra}


def file_of_weights(path: str | Path) -> Path:
    """The file of an exported network that holds its weights."""
    path = Path(path)
    return path.with_suffix(".bin") if path.suffix.lower() == OPENVINO_SUFFIX else path


def open_exported(
    path: str | Path, device: torch.device, num_heatmaps: int, num_offsets: int
) -> ExportedNetwork:
    """The network in an exported file.

    num_heatmaps, num_offsets: channels that the settings and the skeleton ask for.
    Raises UserError if the file has other channels, or cannot be opened on the device.
    """
    path = Path(path)
    network = _reader(path).open_network(path, device)

    expected = {"heatmaps": num_heatmaps, "tags": num_heatmaps, "offsets": num_offsets}
    for name, channels in network.channels.items():
        field = name.partition("_")[0]
        if channels != expected[field]:
            raise UserError(
                f"'{path}': {name} has {channels} channels, but its skeleton and MODEL.* settings "
                f"ask for {expected[field]}"
            )
    return network


def _reader(path: Path) -> Reader:
    if path.suffix.lower() == TORCHSCRIPT_SUFFIX:
        raise UserError(
            f"'{path}': TorchScript files can execute code and are not loaded here; use the ONNX "
            "file, or torch.jit.load if you wrote the file yourself (docs/deploy.md)"
        )
    if not path.exists():
        raise UserError(f"model file '{path}' does not exist (looked for {path.absolute()})")
    return READERS[path.suffix.lower()]


def _entry(description: Mapping[str, str], key: str, path: Path) -> str:
    if key not in description:
        raise UserError(f"'{path}': its metadata has no '{key}'; export it anew")
    return description[key]


def _config_of(description: Mapping[str, str], path: Path) -> str:
    """The yaml text of the settings."""
    text = _entry(description, "config", path)
    if not isinstance(parse_yaml(text, f"'{path}': 'config' in its metadata"), dict):
        raise UserError(f"'{path}': 'config' in its metadata is no yaml mapping; export it anew")
    return text


def _json_of(description: Mapping[str, str], key: str, path: Path) -> Any:
    text = _entry(description, key, path).encode(errors="replace")
    return decode_json(text, f"'{path}': '{key}' in its metadata")
