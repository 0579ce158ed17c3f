"""Weight files of every origin load, or say in a sentence why not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.network import build_network, load_weights, read_model_file, save_model
from duopose.network.key_maps import from_public_de, group_of
from duopose.skeletons import COCO, CROWDPOSE

State = dict[str, torch.Tensor]


def same(a: State, b: State) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def write(folder: Path, content: Any) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


def random_state(network: nn.Module) -> State:
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(t.shape, generator=generator)
        if t.is_floating_point()
        else torch.tensor(5)
        for name, t in network.state_dict().items()
    }


def imagenet_state(network: nn.Module) -> State:
    """The backbone's tensors, and what the ImageNet network has after and beside them."""
    state = {
        name: tensor
        for name, tensor in random_state(network).items()
        if group_of(name) == "backbone"
    }
    extra = [
        "incre_modules.0.0.conv1.weight",
        "downsamp_modules.0.0.weight",
        "final_layer.0.weight",
        "classifier.weight",
        "classifier.bias",
    ]
    return state | {
        name: torch.zeros(2)
        for name in (
            *extra,
            "stage4.0.fuse_layers.1.0.0.0.weight",
            "stage4.0.fuse_layers.3.2.0.1.bias",
        )
    }


@pytest.fixture
def network(tiny_cfg: CfgNode) -> nn.Module:
    return build_network(tiny_cfg, COCO)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        lambda state: {
            f"1.{name}": tensor for name, tensor in state.items()
        },  # the family's fp16 wrapper
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {
            "model": {f"module.{name}": tensor for name, tensor in state.items()},
            "epoch": 3,
        },
    ],
    ids=["plain", "module", "compiled", "fp16 wrapper", "checkpoint", "model"],
)
def test_containers(network: nn.Module, tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    state = random_state(network)
    report = load_weights(network, write(tmp_path, wrap(state)), strict=True)
    assert same(network.state_dict(), state)
    assert (report.kind, report.matched, report.total, report.complete) == (
        "Duopose",
        842,
        842,
        True,
    )
    assert "842/842" in str(report)


def test_half_precision_files(network: nn.Module, tmp_path: Path) -> None:
    state = random_state(network)
    load_weights(
        network,
        write(
            tmp_path, {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
        ),
        strict=True,
    )
    loaded = network.state_dict()
    assert all(tensor.dtype != torch.float16 for tensor in loaded.values())
    assert all(
        torch.equal(loaded[name], tensor.half().to(tensor.dtype)) for name, tensor in state.items()
    )


def test_files_without_batch_counters(network: nn.Module, tmp_path: Path) -> None:
    state = {
        name: t for name, t in random_state(network).items() if "num_batches_tracked" not in name
    }
    assert load_weights(network, write(tmp_path, state), strict=True).complete


def test_imagenet_backbone(network: nn.Module, tmp_path: Path) -> None:
    state = imagenet_state(network)
    report = load_weights(network, write(tmp_path, state))
    loaded = network.state_dict()
    assert all(
        torch.equal(loaded[name], tensor) for name, tensor in state.items() if name in loaded
    )
    assert report.kind == "ImageNet HRNet"
    assert report.matched == sum(name in loaded for name in state) == 842 - len(report.missing)
    assert {group_of(name) for name in report.missing} == {"global_head", "local_head"}
    assert len(report.unexpected) == 7
    assert report.expected == {*report.missing, *report.unexpected}
    assert not report.mismatched
    lines = str(report).splitlines()
    assert len(lines) == 4
    assert "expected" in lines[1] and "classifier 2" in lines[2] and lines[3].endswith("none")


def test_strangers_in_a_file_are_not_called_expected(network: nn.Module, tmp_path: Path) -> None:
    state = imagenet_state(network) | {"stage5.0.weight": torch.zeros(1)}
    del state["layer1.0.conv1.weight"]
    report = load_weights(network, write(tmp_path, state))
    strange = {*report.missing, *report.unexpected} - report.expected
    assert strange == {"stage5.0.weight", "layer1.0.conv1.weight"}
    assert "layer1.0.conv1.weight" in str(report) and "stage5.0.weight" in str(report)


def test_evaluation_refuses_incomplete_weights(network: nn.Module, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match="global_head"):
        load_weights(network, write(tmp_path, imagenet_state(network)), strict=True)
    assert same(network.state_dict(), before)


def test_head_of_another_skeleton(tiny_cfg: CfgNode, network: nn.Module, tmp_path: Path) -> None:
    state = random_state(network)
    path = write(tmp_path, state)
    crowdpose = build_network(tiny_cfg, CROWDPOSE)
    report = load_weights(crowdpose, path)
    assert {group_of(m.name) for m in report.mismatched} == {"global_head", "local_head"}
    assert torch.equal(
        crowdpose.state_dict()["local_head.upsample.blocks.3.conv2.weight"],
        state["local_head.upsample.blocks.3.conv2.weight"],
    )
    assert "(15, 8, 1, 1) in the network and (18, 8, 1, 1) in the file" in "\n".join(
        map(str, report.mismatched)
    )
    with pytest.raises(UserError, match=r"DATASET\.SKELETON"):
        load_weights(crowdpose, path, strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_backbone_of_another_width(
    tiny_cfg: CfgNode, network: nn.Module, tmp_path: Path, strict: bool
) -> None:
    path = write(tmp_path, network.state_dict())
    tiny_cfg.MODEL.WIDTH = 12
    with pytest.raises(
        UserError,
        match=r"\(12, 256, 3, 3\) in the network and \(8, 256, 3, 3\) in the file.*MODEL\.WIDTH",
    ):
        load_weights(build_network(tiny_cfg, COCO), path, strict=strict)


def test_public_de_names_and_notice(network: nn.Module, golden: Path) -> None:
    path = golden / "network" / "public_de_tiny.pth"
    names = [from_public_de(name) for name in torch.load(path, weights_only=True)]
    assert set(names) == set(network.state_dict()) and len(names) == 842
    report = load_weights(network, path, strict=True)
    assert report.kind == "public Double Embedding"
    assert "MODEL.OFFSET_UNIT 724.077" in str(report) and "HEATMAP_CENTRES rounded" in str(report)


def test_baseline_weights_start_double_embedding(network: nn.Module, golden: Path) -> None:
    report = load_weights(network, golden / "network" / "higher_hrnet_tiny.pth")
    assert report.kind == "HigherHRNet"
    assert report.expected == {*report.missing, *report.unexpected}
    assert {group_of(name) for name in report.unexpected} == {"final_layers", "deconv_layers"}


def test_missing_file_says_where_it_comes_from(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_weights(network, tmp_path / "hrnet_w32-36af842e.pth")
    assert all(
        word in str(error.value)
        for word in (
            str(tmp_path / "hrnet_w32-36af842e.pth"),
            "HigherHRNet",
            "models/pytorch/imagenet/",
        )
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"fc.weight": torch.zeros(2)}, "fc.weight"),
        ({"epoch": 3}, "epoch"),
        ({}, "holds no weights"),
        (torch.zeros(2), "Tensor"),
        ({"weights": Path("x")}, "something else than tensors"),
    ],
)
def test_foreign_files(network: nn.Module, tmp_path: Path, content: Any, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_weights(network, path)
    assert said in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"<html>not found</html>", None])
def test_damaged_files(network: nn.Module, tmp_path: Path, damage: bytes | None) -> None:
    path = write(tmp_path, network.state_dict())
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(UserError, match=r"weights\.pth"):
        load_weights(network, path)


def test_model_file_needs_nothing_else(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model_best.pth"
    state = random_state(network)
    save_model(
        path,
        {f"module.{name}": t for name, t in state.items()},
        "MODEL:\n  WIDTH: 8\n",
        {"name": "coco"},
        {"epoch": 3, "AP": 0.5},
    )
    content = read_model_file(path)
    assert same(content.state_dict, state)
    assert content[1:] == ("MODEL:\n  WIDTH: 8\n", {"name": "coco"}, {"epoch": 3, "AP": 0.5})
    assert load_weights(network, path, strict=True).complete
    assert [entry.name for entry in path.parent.iterdir()] == ["model_best.pth"]


def test_a_failed_save_leaves_the_old_file(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model_best.pth"
    save_model(path, network.state_dict(), "", {})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"model_best\.pth"):
        save_model(path, network.state_dict(), "", {})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_weights_alone_are_no_model_file(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no config, skeleton"):
        read_model_file(write(tmp_path, {"state_dict": network.state_dict()}))
