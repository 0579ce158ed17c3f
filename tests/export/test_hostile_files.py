"""ONNX files of others: each problem is a sentence, and nothing outside the folder is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import duopose
from duopose.errors import UserError
from duopose.network import exported_file
from duopose.network.exported_file import read_exported_file
from duopose.network.onnx_external import DamagedOnnxFile, external_locations
from duopose.network.runtimes import open_onnx

Change = Callable[[Any], None]


@pytest.fixture
def onnx() -> Any:
    return pytest.importorskip("onnx")


def changed_file(onnx_export: Any, folder: Path, change: Change) -> Path:
    """A copy of the exported file after `change(ModelProto)`."""
    import onnx

    model = onnx.load(onnx_export.path)
    change(model)
    path = folder / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def set_entry(key: str, text: str | None) -> Change:
    """Another text for an entry of the description; None: without the entry."""

    def change(model: Any) -> None:
        kept = [(one.key, one.value) for one in model.metadata_props if one.key != key]
        del model.metadata_props[:]
        for name, value in [*kept, *([] if text is None else [(key, text)])]:
            model.metadata_props.add(key=name, value=value)

    return change


def rename_output(model: Any) -> None:
    (output,) = [one for one in model.graph.output if one.name == "tags_4"]
    for node in model.graph.node:
        node.output[:] = ["labels" if name == "tags_4" else name for name in node.output]
    output.name = "labels"


def rename_input(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["data" if name == "images" else name for name in node.input]
    model.graph.input[0].name = "data"


def use_later_opset(model: Any) -> None:
    model.opset_import[0].version = 999


def use_later_format(model: Any) -> None:
    model.ir_version = 999


def use_custom_operator(model: Any) -> None:
    model.graph.node[0].domain = "somebody"
    model.opset_import.add(domain="somebody", version=1)


def forget_description(model: Any) -> None:
    del model.metadata_props[:]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (forget_description, "duopose_format"),
        (use_later_opset, "onnxruntime"),
        (use_later_format, "onnxruntime"),
        (use_custom_operator, "somebody"),
        (rename_output, "labels"),
        (rename_input, "data"),
        (set_entry("duopose_format", "2"), "format 2"),
        (set_entry("skeleton", None), "skeleton"),
        (set_entry("skeleton", "{"), "skeleton"),
        (set_entry("skeleton", "[1]"), "skeleton"),
        (set_entry("skeleton", '{"name": "other"}'), "keypoints"),
        (set_entry("calibration", "[1]"), "calibration"),
        (set_entry("calibration", '{"tag_sigma": 1}'), "calibration"),
        (set_entry("config", "MODEL: ["), "config"),
        (set_entry("config", "just words"), "config"),
        (set_entry("config", "MODEL:\n  NMAE: 1"), "NMAE"),
        (set_entry("config", "MODEL:\n  NAME: pose_higher_hrnet"), "18"),
    ],
)
def test_a_changed_file_is_a_sentence(
    onnx_export: Any, onnx: Any, tmp_path: Path, change: Change, word: str
) -> None:
    path = changed_file(onnx_export, tmp_path, change)
    with pytest.raises(UserError, match=r"changed\.onnx") as caught:
        duopose.load(path)
    assert word in str(caught.value)


def test_another_skeleton_than_the_maps(onnx_export: Any, onnx: Any, tmp_path: Path) -> None:
    three = {"name": "three", "keypoints": ["a", "b", "c"], "flip_pairs": [], "torso": ["a"]}
    text = json.dumps({**three, "parents": {"b": "a"}, "centre_only": ["c"]})
    path = changed_file(onnx_export, tmp_path, set_entry("skeleton", text))
    with pytest.raises(UserError, match=r"18 channels.* 4"):
        duopose.load(path, settings=("TEST.CALIBRATION", "off"))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x01" * 50])
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".torchscript"])
def test_what_is_no_model(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="wrong"):
        duopose.load(path)
    with pytest.raises(UserError, match="absent"):
        duopose.load(tmp_path / f"absent{suffix}")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_what_is_no_regular_file(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("openvino" if suffix == ".xml" else "onnxruntime")
    os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    with (tmp_path / f"large{suffix}").open("wb") as file:
        file.truncate(2**41)
    for name in ("fifo", "folder", "device", "large"):
        with pytest.raises(UserError, match=rf"{name}\{suffix}"):
            duopose.load(tmp_path / f"{name}{suffix}")


def test_openvino_weights_that_are_no_regular_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.xml").write_bytes(b"<?xml version='1.0'?>")
    os.mkfifo(tmp_path / "model.bin")
    with pytest.raises(UserError, match=r"model\.bin.*FIFO"):
        duopose.load(tmp_path / "model.xml")


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", [DEEP, "9" * 5000, "NaN", '{"a": 1e999}', "\ud800"])
def test_descriptions_that_are_no_json(
    onnx_export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Texts that json.loads reads, or answers with other errors."""
    reader = exported_file.READERS[".onnx"]
    entries = reader.read_description(onnx_export.path) | {"skeleton": text}
    changed = reader._replace(read_description=lambda path: entries)
    monkeypatch.setitem(exported_file.READERS, ".onnx", changed)
    with pytest.raises(UserError, match=r"'skeleton'|skeleton or calibration"):
        read_exported_file(onnx_export.path)


def test_a_truncated_file(onnx_export: Any, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    content = onnx_export.path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="half"):
        duopose.load(path)


def test_devices_that_onnxruntime_does_not_have(onnx_export: Any) -> None:
    with pytest.raises(UserError, match="mps"):
        open_onnx(onnx_export.path, torch.device("mps"))
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        with pytest.raises(UserError, match="cuda"):
            open_onnx(onnx_export.path, torch.device("cuda"))


OUTSIDE = ["parent", "absolute", "link", "fifo", "device", "folder", "memory"]


@pytest.mark.parametrize("kind", OUTSIDE)
def test_weights_outside_the_folder_are_not_read(
    onnx_export: Any, onnx: Any, tmp_path: Path, kind: str
) -> None:
    """The first weights of the file point to another one, of the right length."""
    inner = tmp_path / "inner"
    inner.mkdir()
    secret = tmp_path / "secret.bin"

    def move_weights_to(location: str) -> Change:
        def change(model: Any) -> None:
            weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
            size = int(np.prod(weights.dims)) * 4
            secret.write_bytes(bytes(size))
            weights.ClearField("raw_data")
            weights.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
                weights.external_data.add(key=key, value=value)

        return change

    locations = {"parent": "../secret.bin", "absolute": str(secret)}
    locations |= {"folder": ".", "memory": "*/_ORT_MEM_ADDR_/*"}
    (inner / "link").symlink_to(secret)
    (inner / "device").symlink_to("/dev/zero")
    os.mkfifo(inner / "fifo")
    path = changed_file(onnx_export, inner, move_weights_to(locations.get(kind, kind)))
    assert external_locations(path, 2**30) == [locations.get(kind, kind)]
    with pytest.raises(UserError, match=r"changed\.onnx"):
        duopose.load(path)

    # The file itself is right: with the weights in its own folder it is loaded.
    path = changed_file(onnx_export, inner, move_weights_to("own.bin"))
    (inner / "own.bin").write_bytes(secret.read_bytes())
    assert duopose.load(path).names == duopose.load(onnx_export.path).names


def test_weights_in_inner_graphs_are_found(onnx: Any, tmp_path: Path) -> None:
    """In a node's graph, a function, and a sparse tensor."""

    def weights(name: str) -> Any:
        tensor = onnx.TensorProto(name=name, dims=[1], data_type=1, data_location=1)
        tensor.external_data.add(key="location", value=name)
        tensor.external_data.add(key="length", value="4")
        return tensor

    model = onnx.ModelProto(ir_version=8, producer_name="location")
    model.graph.initializer.append(weights("plain"))
    model.graph.sparse_initializer.add(values=weights("sparse"))
    node = onnx.NodeProto(op_type="If")
    attribute = node.attribute.add(name="then_branch", type=5)
    attribute.g.node.add().attribute.add(name="value", type=4, t=weights("inner"))
    model.graph.node.append(node)
    model.functions.add(name="f").node.add().attribute.add().tensors.append(weights("function"))

    path = tmp_path / "inner.onnx"
    path.write_bytes(model.SerializeToString())
    assert sorted(external_locations(path, 2**20)) == ["function", "inner", "plain", "sparse"]


NUM_FLIPPED = 40


def test_damaged_onnx_files_end(onnx_export: Any, tmp_path: Path) -> None:
    """Flipped bytes give names, or an error, and nothing else."""
    assert external_locations(onnx_export.path, 2**30) == []
    content = onnx_export.path.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.onnx"
    num_refused = 0
    for _ in range(NUM_FLIPPED):
        flipped = bytearray(content)
        for position in rng.integers(0, 2000, size=3):
            flipped[position] = int(rng.integers(0, 256))
        path.write_bytes(flipped)
        try:
            external_locations(path, 2**30)
        except DamagedOnnxFile:
            num_refused += 1
    assert 0 < num_refused < NUM_FLIPPED
