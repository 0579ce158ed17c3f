"""Exported files: the description in an ONNX file, and its graph as onnxruntime opens it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
import yaml
from tests.export.conftest import tiny_calibration
from tests.fuzz.byte_changes import JSON_WORDS, YAML_WORDS, changed_bytes
from tests.fuzz.fuzz_target import Target
from tests.fuzz.small_maps import SIDE, decode_small
from tests.fuzz.tree_changes import changed_tree

from duopose.config import config_text, load_config
from duopose.decode import build_decoder
from duopose.inference.model import read_calibration, read_model_settings
from duopose.network.exported_file import FORMAT, FORMAT_KEY
from duopose.network.flat_network import INPUT_NAME
from duopose.network.runtimes import open_onnx
from duopose.skeletons import COCO, skeleton_to_dict

MAX_KEYPOINTS = 40  # of a skeleton whose maps are decoded


def onnx_target(folder: Path) -> Target:
    """Skeleton, calibration and settings in the metadata; the graph copies its input."""
    cfg = load_config(None, ["DATASET.INPUT_SIZE", SIDE, "TEST.MAX_PEOPLE", 5])
    description = {
        FORMAT_KEY: FORMAT,
        "skeleton": json.dumps(skeleton_to_dict(COCO)),
        "calibration": json.dumps(tiny_calibration().to_dict()),
        "config": config_text(cfg),
    }
    valid = onnx_file(description)

    def make(rng: Random) -> bytes:
        if rng.random() < 0.25:
            return changed_bytes(valid, rng)
        return onnx_file(changed_description(description, rng))

    def use(path: Path) -> None:
        read_cfg, skeleton = read_model_settings(path)
        calibration = read_calibration(path)
        open_onnx(path, torch.device("cpu"))
        if calibration is not None:
            calibration = calibration.for_num_tags(2)
        if skeleton.num_keypoints <= MAX_KEYPOINTS:
            decode_small(build_decoder(read_cfg, skeleton, calibration), read_cfg, skeleton)

    return Target("onnx", ".onnx", valid, make, use)


def onnx_file(description: dict[str, str]) -> bytes:
    """A model with this metadata whose outputs are its input."""
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["n", 3, "h", "w"]
    image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, shape)
    names = ("heatmaps_4", "heatmaps_2", "tags_4", "offsets_4")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    nodes = [helper.make_node("Identity", [INPUT_NAME], [name]) for name in names]
    graph = helper.make_graph(nodes, "copy", [image], outputs)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    helper.set_model_props(model, description)
    content: bytes = model.SerializeToString()
    return content


def changed_description(description: dict[str, str], rng: Random) -> dict[str, str]:
    """One text changed, as its tree or its characters, or the texts exchanged."""
    key = rng.choice(("skeleton", "calibration", "config", "config"))
    text = description[key]
    chance = rng.random()
    if chance < 0.05:
        changed = changed_tree(description, rng)
        pairs = changed.items() if isinstance(changed, dict) else ()
        return {str(name): str(value) for name, value in pairs}
    if chance < 0.4:
        words = YAML_WORDS if key == "config" else JSON_WORDS
        content = changed_bytes(text.encode(), rng, words)
        return {**description, key: content.decode(errors="replace")}
    if key == "config":
        changed_text = yaml.safe_dump(changed_tree(yaml.safe_load(text), rng))
    else:
        changed_text = json.dumps(changed_tree(json.loads(text), rng))
    return {**description, key: changed_text.encode(errors="replace").decode()}
