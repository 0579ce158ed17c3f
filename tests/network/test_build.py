"""Sizes, shapes and settings of the networks."""

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.errors import UserError
from duopose.network import build_network
from duopose.skeletons import COCO, get_skeleton


def build_on_meta(name: str, width: int) -> nn.Module:
    cfg = default_config()
    cfg.MODEL.NAME, cfg.MODEL.WIDTH, cfg.MODEL.INIT_WEIGHTS = name, width, False
    with torch.device("meta"):
        return build_network(cfg, COCO).eval()


def multiply_adds(network: nn.Module, size: int) -> int:
    """Of convolutions and deconvolutions for one square image: weights times the positions they are applied at."""
    counts = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counts.append(module.weight.numel() * places.shape[-2] * places.shape[-1])

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
    assert sum(p.numel() for p in network.parameters()) == parameters
    if giga is not None:
        assert round(multiply_adds(network, 512) / 1e9, 3) == giga


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
    channels = offsets + 16 * reverse
    assert [tuple(maps.shape) for maps in output.heatmaps] == [
        (2, keypoints + 1, 8, 16),
        (2, keypoints + 1, 16, 32),
    ]
    assert tuple(output.tags.shape) == (2, keypoints + 1, 8, 16)
    assert [tuple(maps.shape) for maps in output.offsets] == [
        (2, channels, 8, 16),
        (2, channels, 16, 32),
    ]


def test_reverse_offsets_off_is_the_public_head(tiny_cfg: CfgNode) -> None:
    plain = build_network(tiny_cfg, COCO).state_dict()
    tiny_cfg.MODEL.REVERSE_OFFSETS = True
    reverse = build_network(tiny_cfg, COCO).state_dict()
    assert list(plain) == list(reverse)
    assert {name for name in plain if plain[name].shape != reverse[name].shape} == {
        "local_head.predict_stride4.weight",
        "local_head.predict_stride4.bias",
        "local_head.predict_stride2.weight",
        "local_head.predict_stride2.bias",
        "local_head.upsample.deconv.weight",
    }


def test_baseline_has_no_centre_and_no_offsets(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.NAME = "pose_higher_hrnet"
    output = build_network(tiny_cfg, COCO).eval()(torch.rand(1, 3, 32, 32))
    assert output.offsets == ()
    assert [tuple(maps.shape) for maps in (*output.heatmaps, output.tags)] == [
        (1, 17, 8, 8),
        (1, 17, 16, 16),
        (1, 17, 8, 8),
    ]


def test_initialisation_is_the_familys(tiny_cfg: CfgNode) -> None:
    network = build_network(tiny_cfg, COCO)
    weights = torch.cat(
        [
            m.weight.flatten()
            for m in network.modules()
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
        ]
    )
    assert abs(weights.std().item() - 1e-3) < 2e-5
    assert abs(weights.mean().item()) < 2e-5
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            assert bool((parameter == (0.0 if name.endswith("bias") else 1.0)).all()), name


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3, 64, 48), "width 48"), ((1, 3, 40, 64), "height 40"), ((3, 64, 64), "(B, 3, H, W)")],
)
def test_unusable_input_shape_is_said(tiny_cfg: CfgNode, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match="the network takes") as error:
        build_network(tiny_cfg, COCO)(torch.rand(shape))
    assert said in str(error.value)


def test_unknown_names_list_the_valid_ones(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.UPSAMPLE = "cubic"
    with pytest.raises(UserError, match="nearest, bilinear"):
        build_network(tiny_cfg, COCO)
    tiny_cfg.MODEL.NAME = "pose_resnet"
    with pytest.raises(UserError, match="pose_higher_hrnet_de, pose_higher_hrnet"):
        build_network(tiny_cfg, COCO)
