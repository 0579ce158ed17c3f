"""Weight files of every origin load, or raise an error that names the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.network import (
    build_network,
    load_weights,
    read_model_file,
    save_model,
    translate_state_dict,
)
from duopose.network.weights import group_of
from duopose.skeletons import COCO, CROWDPOSE

State = dict[str, torch.Tensor]
NUM_TENSORS = 842  # of Double Embedding on the tiny HRNet


def same(a: State, b: State) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def write(folder: Path, content: Any) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


def with_prefix(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def random_state(network: nn.Module) -> State:
    generator = torch.Generator().manual_seed(7)
    state = {}
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            state[name] = torch.randn(tensor.shape, generator=generator)
        else:
            state[name] = torch.tensor(5)
    return state


def old_names(state: State) -> State:
    """The names that Duopose's files had before networks were composed of backbone and heads."""
    return {name.split(".", 1)[1]: tensor for name, tensor in state.items()}


def imagenet_hrnet_state(network: nn.Module) -> State:
    """The backbone's tensors, and those that the ImageNet network has after and beside them."""
    state = random_state(network)
    backbone = {name: tensor for name, tensor in state.items() if group_of(name) == "backbone"}
    extra = [
        "incre_modules.0.0.conv1.weight",
        "downsamp_modules.0.0.weight",
        "final_layer.0.weight",
        "classifier.weight",
        "classifier.bias",
        "stage4.0.fuse_layers.1.0.0.0.weight",
        "stage4.0.fuse_layers.3.2.0.1.bias",
    ]
    return old_names(backbone) | {name: torch.zeros(2) for name in extra}


def torchvision_resnet50_state(network: nn.Module) -> State:
    """The state dict of torchvision's resnet50, with random values."""
    state = random_state(network)
    backbone = {name: tensor for name, tensor in state.items() if group_of(name) == "backbone"}
    classifier = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    return old_names(backbone) | classifier


# ---- containers ----


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: with_prefix("module.", state),
        lambda state: with_prefix("module._orig_mod.", state),
        lambda state: with_prefix("1.", state),  # the fp16 wrapper of the public code
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": with_prefix("module.", state), "epoch": 3},
    ],
    ids=["plain", "module", "compiled", "fp16 wrapper", "checkpoint", "model"],
)
@pytest.mark.parametrize("rename", [dict, old_names], ids=["names of today", "old names"])
def test_containers(
    network: nn.Module,
    tmp_path: Path,
    wrap: Callable[[State], Any],
    rename: Callable[[State], State],
) -> None:
    state = random_state(network)
    path = write(tmp_path, wrap(rename(state)))
    report = load_weights(network, path, strict=True)
    assert same(network.state_dict(), state)
    assert report.complete
    assert (report.origin, report.matched, report.total) == ("Duopose", NUM_TENSORS, NUM_TENSORS)
    assert f"{NUM_TENSORS}/{NUM_TENSORS}" in str(report)


def test_half_precision_files(network: nn.Module, tmp_path: Path) -> None:
    state = random_state(network)
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    load_weights(network, write(tmp_path, half), strict=True)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, half[name].to(tensor.dtype))


def test_files_without_batch_counters(network: nn.Module, tmp_path: Path) -> None:
    state = random_state(network)
    state = {name: t for name, t in state.items() if "num_batches_tracked" not in name}
    assert load_weights(network, write(tmp_path, state), strict=True).complete


# ---- old names ----


def test_translation_of_old_checkpoints(network: nn.Module) -> None:
    state = random_state(network)
    assert same(translate_state_dict(old_names(state), network), state)
    assert same(translate_state_dict(state, network), state)


def test_translation_changes_nothing_of_other_networks() -> None:
    other = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    state = random_state(other)
    assert same(translate_state_dict(state, other), state)


def test_old_baseline_files(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    tiny_cfg.MODEL.NAME = "pose_higher_hrnet"
    network = build_network(tiny_cfg, COCO)
    state = random_state(network)
    load_weights(network, write(tmp_path, old_names(state)), strict=True)
    assert same(network.state_dict(), state)


# ---- ImageNet ----


def test_imagenet_hrnet(network: nn.Module, tmp_path: Path) -> None:
    state = imagenet_hrnet_state(network)
    report = load_weights(network, write(tmp_path, state))
    loaded = network.state_dict()
    backbone = {name for name in loaded if group_of(name) == "backbone"}
    for name in backbone:
        assert torch.equal(loaded[name], state[name.removeprefix("backbone.")])

    assert report.origin == "ImageNet HRNet"
    assert report.matched == len(backbone) == NUM_TENSORS - len(report.missing)
    assert {group_of(name) for name in report.missing} == {"global_head", "local_head"}
    assert len(report.unexpected) == 7
    assert report.expected == {*report.missing, *report.unexpected}
    assert not report.mismatched
    lines = str(report).splitlines()
    assert len(lines) == 4
    assert "expected" in lines[1] and "classifier 2" in lines[2] and lines[3].endswith("none")


def test_imagenet_resnet50(resnet_cfg: CfgNode, tmp_path: Path) -> None:
    network = build_network(resnet_cfg, COCO)
    state = torchvision_resnet50_state(network)
    # torchvision's resnet50 has 161 parameters and 3 buffers in each of its 53 normalisations
    assert len(state) == 161 + 3 * 53
    assert tuple(state["layer4.0.downsample.0.weight"].shape) == (2048, 1024, 1, 1)

    report = load_weights(network, write(tmp_path, state))
    loaded = network.state_dict()
    assert report.origin == "ImageNet ResNet"
    assert report.matched == len(state) - 2
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert {group_of(name) for name in report.missing} == {"neck", "global_head", "local_head"}
    assert report.expected == {*report.missing, *report.unexpected}
    for name in state.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(loaded[f"backbone.{name}"], state[name]), name


def test_unknown_tensors_are_not_reported_as_expected(network: nn.Module, tmp_path: Path) -> None:
    state = imagenet_hrnet_state(network) | {"stage5.0.weight": torch.zeros(1)}
    del state["layer1.0.conv1.weight"]
    report = load_weights(network, write(tmp_path, state))
    unexplained = {*report.missing, *report.unexpected} - report.expected
    assert unexplained == {"stage5.0.weight", "backbone.layer1.0.conv1.weight"}
    assert all(name in str(report) for name in unexplained)


# ---- files that do not fit ----


def test_evaluation_rejects_incomplete_weights(network: nn.Module, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = write(tmp_path, imagenet_hrnet_state(network))
    with pytest.raises(UserError, match="global_head"):
        load_weights(network, path, strict=True)
    assert same(network.state_dict(), before)


def test_head_of_another_skeleton(tiny_cfg: CfgNode, network: nn.Module, tmp_path: Path) -> None:
    state = random_state(network)
    path = write(tmp_path, state)
    crowdpose = build_network(tiny_cfg, CROWDPOSE)
    report = load_weights(crowdpose, path)
    assert {group_of(m.name) for m in report.mismatched} == {"global_head", "local_head"}
    shapes = {m.name: (m.network_shape, m.file_shape) for m in report.mismatched}
    name = "heads.global_head.predict_stride2.weight"
    assert shapes[name] == ((15, 8, 1, 1), (18, 8, 1, 1))

    name = "heads.local_head.upsample.blocks.3.conv2.weight"
    assert torch.equal(crowdpose.state_dict()[name], state[name])
    with pytest.raises(UserError, match=r"DATASET\.SKELETON"):
        load_weights(crowdpose, path, strict=True)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("key", "value"), [("WIDTH", 12), ("BACKBONE", "resnet50")])
def test_another_backbone(
    tiny_cfg: CfgNode, network: nn.Module, tmp_path: Path, strict: bool, key: str, value: Any
) -> None:
    path = write(tmp_path, network.state_dict())
    tiny_cfg.MODEL[key] = value
    with pytest.raises(UserError, match=rf"MODEL\.{key}"):
        load_weights(build_network(tiny_cfg, COCO), path, strict=strict)


def test_heads_alone_are_not_a_start(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    heads = {name: t for name, t in state.items() if name.startswith("heads.")}
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE"):
        load_weights(network, write(tmp_path, heads))


# ---- public codes ----


def test_public_de_names_and_notice(network: nn.Module, golden: Path) -> None:
    path = golden / "network" / "public_de_tiny.pth"
    state = torch.load(path, weights_only=True)
    names = set(translate_state_dict(state, network))
    assert names == set(network.state_dict()) and len(state) == NUM_TENSORS
    report = load_weights(network, path, strict=True)
    assert report.origin == "public Double Embedding"
    assert "MODEL.OFFSET_UNIT 724.077" in str(report) and "HEATMAP_CENTRES rounded" in str(report)


def test_baseline_weights_start_double_embedding(network: nn.Module, golden: Path) -> None:
    report = load_weights(network, golden / "network" / "higher_hrnet_tiny.pth")
    assert report.origin == "HigherHRNet"
    assert report.expected == {*report.missing, *report.unexpected}
    assert {group_of(name) for name in report.unexpected} == {"final_layers", "deconv_layers"}


# ---- bad files ----


def test_missing_file(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "hrnet_w32-36af842e.pth"
    with pytest.raises(UserError) as error:
        load_weights(network, path)
    fragments = (str(path), "HigherHRNet", "models/pytorch/imagenet/")
    assert all(fragment in str(error.value) for fragment in fragments)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ({"fc.weight": torch.zeros(2)}, "fc.weight"),
        ({"epoch": 3}, "epoch"),
        ({}, "state_dict"),
        (torch.zeros(2), "Tensor"),
        ({"weights": Path("x")}, "tensors"),
    ],
)
def test_foreign_files(network: nn.Module, tmp_path: Path, content: Any, fragment: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_weights(network, path)
    assert fragment in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"<html>not found</html>", None])
def test_damaged_files(network: nn.Module, tmp_path: Path, damage: bytes | None) -> None:
    path = write(tmp_path, network.state_dict())
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(UserError, match=r"weights\.pth"):
        load_weights(network, path)


# ---- model files ----


def test_model_file_needs_nothing_else(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model_best.pth"
    state = random_state(network)
    config = "MODEL:\n  WIDTH: 8\n"
    skeleton = {"name": "coco"}
    extra = {"epoch": 3, "AP": 0.5}
    save_model(path, with_prefix("module.", state), config, skeleton, extra)

    content = read_model_file(path)
    assert same(content.state_dict, state)
    assert content[1:] == (config, skeleton, extra)
    assert load_weights(network, path, strict=True).complete
    assert [entry.name for entry in path.parent.iterdir()] == ["model_best.pth"]


def test_a_failed_save_keeps_the_old_file(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model_best.pth"
    save_model(path, network.state_dict(), "", {})
    before = path.read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(UserError, match=r"model_best\.pth.*No space left"):
        save_model(path, network.state_dict(), "", {})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_weights_alone_are_not_a_model_file(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config, skeleton"):
        read_model_file(write(tmp_path, {"state_dict": network.state_dict()}))
