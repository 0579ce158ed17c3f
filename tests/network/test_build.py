"""Sizes, shapes and settings of the networks."""

from pathlib import Path

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.errors import UserError
from duopose.network import build_network, load_weights
from duopose.network.build import BACKBONES
from duopose.network.pose_net import Backbone
from duopose.skeletons import COCO, get_skeleton


def build_on_meta(name: str, width: int, backbone: str = "hrnet") -> nn.Module:
    cfg = default_config()
    cfg.MODEL.NAME = name
    cfg.MODEL.WIDTH = width
    cfg.MODEL.BACKBONE = backbone
    cfg.MODEL.INIT_WEIGHTS = False
    with torch.device("meta"):
        return build_network(cfg, COCO).eval()


def count_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def multiply_adds(network: nn.Module, size: int) -> int:
    """Of (de)convolutions on one square image: weights times the positions where they apply."""
    counts = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        maps = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        weight = module.get_parameter("weight")
        counts.append(weight.numel() * maps.shape[-2] * maps.shape[-1])

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    network(torch.empty(1, 3, size, size, device="meta"))
    return sum(counts)


@pytest.mark.parametrize(
    ("name", "width", "parameters", "giga"),
    [
        ("pose_higher_hrnet_de", 32, 28_768_522, 51.893),
        ("pose_higher_hrnet_de", 48, 64_084_362, 108.100),
        ("pose_higher_hrnet", 32, 28_645_331, None),
    ],
)
def test_published_sizes(name: str, width: int, parameters: int, giga: float | None) -> None:
    network = build_on_meta(name, width)
    assert count_parameters(network) == parameters
    if giga is not None:
        assert round(multiply_adds(network, 512) / 1e9, 3) == giga


def test_resnet50_has_the_published_size() -> None:
    backbone = build_on_meta("pose_higher_hrnet_de", 32, "resnet50").get_submodule("backbone")
    neck = backbone.get_submodule("neck")
    # torchvision's resnet50 has 25,557,032 parameters, 2,049,000 of them in its classifier
    assert count_parameters(backbone) - count_parameters(neck) == 25_557_032 - 2_049_000


@pytest.mark.parametrize(
    ("skeleton", "keypoints", "offsets"),
    [("coco", 17, 42), ("crowdpose", 14, 36), ("mpii", 16, 36)],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_maps_of_each_skeleton(
    tiny_cfg: CfgNode, skeleton: str, keypoints: int, offsets: int, reverse: bool
) -> None:
    tiny_cfg.MODEL.REVERSE_OFFSETS = reverse
    network = build_network(tiny_cfg, get_skeleton(skeleton))
    output = network(torch.rand(2, 3, 32, 64))

    num_maps = keypoints + 1
    num_offsets = offsets + 16 * reverse
    shapes = [tuple(maps.shape) for maps in output.heatmaps]
    assert shapes == [(2, num_maps, 8, 16), (2, num_maps, 16, 32)]
    assert tuple(output.tags.shape) == (2, num_maps, 8, 16)
    shapes = [tuple(maps.shape) for maps in output.offsets]
    assert shapes == [(2, num_offsets, 8, 16), (2, num_offsets, 16, 32)]


def test_reverse_offsets_change_only_the_last_layers_of_the_local_head(tiny_cfg: CfgNode) -> None:
    plain = build_network(tiny_cfg, COCO).state_dict()
    tiny_cfg.MODEL.REVERSE_OFFSETS = True
    reverse = build_network(tiny_cfg, COCO).state_dict()
    assert list(plain) == list(reverse)
    assert {name for name in plain if plain[name].shape != reverse[name].shape} == {
        "heads.local_head.predict_stride4.weight",
        "heads.local_head.predict_stride4.bias",
        "heads.local_head.predict_stride2.weight",
        "heads.local_head.predict_stride2.bias",
        "heads.local_head.upsample.deconv.weight",
    }


def test_without_fine_offsets_the_local_head_ends_at_stride_4(tiny_cfg: CfgNode) -> None:
    both = build_network(tiny_cfg, COCO).state_dict()
    tiny_cfg.MODEL.FINE_OFFSETS = False
    network = build_network(tiny_cfg, COCO)
    output = network(torch.rand(1, 3, 32, 64))
    assert [tuple(maps.shape) for maps in output.offsets] == [(1, 42, 8, 16)]
    assert len(output.heatmaps) == 2

    left_out = both.keys() - network.state_dict().keys()
    parts = {name.split(".")[2] for name in left_out}
    assert parts == {"upsample", "predict_stride2"}
    assert all(name.startswith("heads.local_head.") for name in left_out)


def test_baseline_has_no_centre_and_no_offsets(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.NAME = "pose_higher_hrnet"
    output = build_network(tiny_cfg, COCO).eval()(torch.rand(1, 3, 32, 32))
    assert output.offsets == ()
    shapes = [tuple(maps.shape) for maps in (*output.heatmaps, output.tags)]
    assert shapes == [(1, 17, 8, 8), (1, 17, 16, 16), (1, 17, 8, 8)]


def test_parameters_are_in_the_order_of_old_checkpoints(network: nn.Module) -> None:
    """Optimizer states in checkpoints are by index."""
    parts = []
    for name, _ in network.named_parameters():
        part = ".".join(name.split(".")[:2])
        if part not in parts:
            parts.append(part)
    stem = ["backbone.conv1", "backbone.bn1", "backbone.conv2", "backbone.bn2", "backbone.layer1"]
    stages = [f"backbone.{kind}" for kind in ("transition1", "stage2", "transition2", "stage3")]
    stages += ["backbone.transition3", "backbone.stage4"]
    assert parts == [*stem, *stages, "heads.global_head", "heads.local_head"]


class OneConvolution(Backbone):
    """The smallest backbone."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.patch_embed = nn.Conv2d(3, out_channels, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.patch_embed(images)


@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_a_new_backbone_needs_an_entry_in_build_only(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setitem(BACKBONES, "one_convolution", lambda cfg: OneConvolution(12))
    tiny_cfg.MODEL.NAME = name
    tiny_cfg.MODEL.BACKBONE = "one_convolution"
    network = build_network(tiny_cfg, COCO)
    output = network(torch.rand(1, 3, 64, 64))
    assert [tuple(maps.shape[-2:]) for maps in output.heatmaps] == [(16, 16), (32, 32)]

    weights = torch.rand(12, 3, 4, 4)
    path = tmp_path / "imagenet.pth"
    torch.save({"patch_embed.weight": weights, "patch_embed.bias": torch.zeros(12)}, path)
    assert load_weights(network, path).matched == 2
    loaded = network.get_parameter("backbone.patch_embed.weight")
    assert torch.equal(loaded, weights)


@pytest.mark.parametrize("backbone", ["hrnet", "resnet50"])
def test_initialisation_of_higher_hrnet(tiny_cfg: CfgNode, backbone: str) -> None:
    tiny_cfg.MODEL.BACKBONE = backbone
    network = build_network(tiny_cfg, COCO)
    convolutions = [
        module.weight.flatten()
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    weights = torch.cat(convolutions)
    assert abs(weights.std().item() - 1e-3) < 2e-5
    assert abs(weights.mean().item()) < 2e-5

    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            expected = 0.0 if name.endswith("bias") else 1.0
            assert bool((parameter == expected).all()), name


@pytest.mark.parametrize(
    ("shape", "fragment"),
    [((1, 3, 64, 48), "width 48"), ((1, 3, 40, 64), "height 40"), ((3, 64, 64), "(B, 3, H, W)")],
)
@pytest.mark.parametrize("backbone", ["hrnet", "resnet50"])
def test_unusable_input_shapes(
    tiny_cfg: CfgNode, shape: tuple[int, ...], fragment: str, backbone: str
) -> None:
    tiny_cfg.MODEL.BACKBONE = backbone
    with pytest.raises(ValueError) as error:
        build_network(tiny_cfg, COCO)(torch.rand(shape))
    assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("UPSAMPLE", "cubic", ["nearest", "bilinear"]),
        ("BACKBONE", "resnet18", ["hrnet", "resnet50"]),
        ("NAME", "pose_resnet", ["pose_higher_hrnet_de", "pose_higher_hrnet"]),
    ],
)
def test_unknown_names(tiny_cfg: CfgNode, key: str, value: str, valid: list[str]) -> None:
    tiny_cfg.MODEL[key] = value
    with pytest.raises(UserError) as error:
        build_network(tiny_cfg, COCO)
    assert all(word in str(error.value) for word in (f"MODEL.{key}", value, *valid))
