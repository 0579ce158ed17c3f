"""Weight files, model files with their calibration, and checkpoints."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from tests.export.conftest import tiny_calibration
from tests.fuzz.byte_changes import changed_bytes
from tests.fuzz.fuzz_target import Target
from tests.fuzz.small_maps import SIDE, decode_small
from tests.fuzz.tree_changes import changed_tree, copied
from tests.training.tiny_train import tiny_config
from tests.trust.mutations import ODD_VALUES
from torch import nn

from duopose.config import config_text, load_config
from duopose.decode import build_decoder
from duopose.distributed.context import DistributedContext
from duopose.inference.model import read_calibration, read_model_settings
from duopose.network import load_weights, read_model_file
from duopose.skeletons import COCO, skeleton_to_dict
from duopose.training.checkpoint import (
    FORMAT,
    check_settings,
    read_checkpoint,
    torchrun_id_in,
)
from duopose.training.checkpoint_content import check_content
from duopose.training.setup import build_state

LEGACY = {"_use_new_zipfile_serialization": False}
BYTE_CASES = 0.3  # fraction whose bytes are changed
PICKLE_CASES = 0.2  # fraction whose list of objects is changed, in a zip with right checksums
INFINITE = float("inf")
# Tensors in the place of others, and plain values that a file of torch can hold.
ODD_TENSORS: list[Any] = [
    torch.zeros(0), torch.zeros(()), torch.zeros(3), torch.ones(2, 3), torch.full((2, 3), INFINITE),
    torch.full((2, 3), float("nan")), torch.ones(2, 3).half(), torch.ones(2, 3).bfloat16(),
    torch.ones(2, 3).double(), torch.full((2, 3), 1e300, dtype=torch.float64),
    torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool),
    torch.ones(2, 3, dtype=torch.complex64), torch.ones(3, 2).t(), torch.zeros(1).expand(1000),
    torch.eye(3).to_sparse(), torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), 1e38),
    torch.zeros(2, 3, dtype=torch.uint8), torch.ones(1), torch.full((), 1e30),
    INFINITE, -INFINITE, float("nan"), b"bytes", (1, 2), [torch.ones(2)],
]  # fmt: skip
PLAIN_VALUES = [value for value in ODD_VALUES if not isinstance(value, int) or value < 2**63]
ODD = [*PLAIN_VALUES, *ODD_TENSORS, *ODD_TENSORS]


def torch_maker(contents: list[Any]) -> Callable[[Random], bytes]:
    """Changed files of torch.save, of today's and of the older kind."""
    files = [saved(content) for content in contents]
    files += [saved(content, **LEGACY) for content in contents]

    def make(rng: Random) -> bytes:
        chance = rng.random()
        if chance < BYTE_CASES:
            return changed_bytes(rng.choice(files), rng)
        if chance < BYTE_CASES + PICKLE_CASES:
            return with_changed_pickle(rng.choice(files[: len(contents)]), rng)
        changed = changed_tree(rng.choice(contents), rng, ODD)
        options = LEGACY if rng.random() < 0.2 else {}
        return saved(changed, **options)

    return make


def saved(content: Any, **options: Any) -> bytes:
    """The file of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_changed_pickle(content: bytes, rng: Random) -> bytes:
    """The same zip with other bytes in the list of objects; the checksums are right."""
    source = zipfile.ZipFile(io.BytesIO(content))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            member = source.read(info)
            if info.filename.endswith("data.pkl"):
                member = changed_bytes(member, rng)
            target.writestr(info.filename, member)
    return buffer.getvalue()


# ---- weights ----


class SmallNet(nn.Module):
    """A network with the parts that `load_weights` looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.heads = nn.ModuleDict({"global_head": nn.Conv2d(2, 3, 1)})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.backbone(images)
        maps: torch.Tensor = self.heads["global_head"](features)
        return maps


def weight_target(folder: Path) -> Target:
    """Weights of several codebases into a network, which is then used."""
    state = SmallNet().state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    plain = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    contents = [dict(state), wrapped, plain, {"state_dict": dict(state), "epoch": 3}]
    contents.append({**state, "heads.local_head.weight": torch.ones(2)})
    images = torch.rand(1, 3, 4, 4)

    def use(path: Path) -> None:
        network = SmallNet().eval()
        load_weights(network, path)
        with torch.inference_mode():
            assert network(images).shape == (1, 3, 4, 4)
        assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())

    return Target("weights", ".pth", saved(contents[0]), torch_maker(contents), use)


# ---- model files ----


def model_target(folder: Path) -> Target:
    """Settings, skeleton and calibration of a model file, and the decoder made of them."""
    cfg = load_config(None, ["DATASET.INPUT_SIZE", SIDE, "TEST.MAX_PEOPLE", 5])
    calibration = tiny_calibration().to_dict()
    content = {
        "state_dict": {"backbone.weight": torch.ones(2)},
        "config": config_text(cfg),
        "skeleton": skeleton_to_dict(COCO),
        "extra": {"calibration": calibration, "epoch": 3, "AP": 0.5},
    }
    # Most cases change one part alone.
    parts = torch_maker([content])

    def make(rng: Random) -> bytes:
        part = rng.choice(("", "", "calibration", "calibration", "skeleton", "config"))
        if not part:
            return parts(rng)
        changed = copied(content)
        if part == "calibration":
            changed["extra"]["calibration"] = changed_tree(calibration, rng, ODD)
        elif part == "skeleton":
            changed["skeleton"] = changed_tree(skeleton_to_dict(COCO), rng, ODD)
        else:
            changed["config"] = changed_bytes(config_text(cfg).encode(), rng).decode("latin-1")
        return saved(changed)

    return Target("model", ".pth", saved(content), make, use_model)


def use_model(path: Path) -> None:
    """As `duopose.load`, without a network."""
    read_model_file(path)
    cfg, skeleton = read_model_settings(path)
    calibration = read_calibration(path)
    if calibration is not None:
        json.dumps(calibration.to_dict())
        calibration = calibration.for_num_tags(2)
    if skeleton.num_keypoints <= 40:
        decode_small(build_decoder(cfg, skeleton, calibration), cfg, skeleton)


# ---- checkpoints ----


def checkpoint_target(folder: Path) -> Target:
    """A checkpoint into network, optimizer and random states, and one update."""
    cfg = tiny_config(folder)
    context = DistributedContext(torch.device("cpu"))
    state = build_state(cfg, SmallNet(), context)
    update(state.network, state.optimizer)
    content = state.checkpoint_content(context)
    content |= {"format": FORMAT, "config": config_text(cfg), "metrics_csv_bytes": 0}
    content |= {"skeleton": skeleton_to_dict(COCO), "torchrun": ""}
    content = copied(content)  # dicts for other mappings

    def use(path: Path) -> None:
        torchrun_id_in(path)
        loaded = read_checkpoint(path)
        check_content(loaded.content, loaded.path)
        check_settings(cfg, loaded, allow_differences=True)
        fresh = build_state(cfg, SmallNet(), context)
        fresh.restore(loaded.content, context)
        update(fresh.network, fresh.optimizer)

    return Target("checkpoint", ".pth", saved(content), torch_maker([content]), use)


def update(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A step of the optimizer."""
    loss = network(torch.rand(1, 3, 4, 4)).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
