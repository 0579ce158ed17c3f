"""Training a network: gradients, and modes that change only speed and memory."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate
from yacs.config import CfgNode

from duopose.network import build_network
from duopose.network.hrnet import _sum_bilinear, _sum_nearest
from duopose.skeletons import COCO
from duopose.types import NetworkOutput

Network = Callable[[torch.Tensor], NetworkOutput]


def flat(output: NetworkOutput) -> torch.Tensor:
    return torch.cat([maps.flatten() for maps in (*output.heatmaps, output.tags, *output.offsets)])


def train_step(network: Network, images: torch.Tensor) -> torch.Tensor:
    """One forward and backward pass of a loss that reads every map; the outputs."""
    output = flat(network(images))
    (output * torch.linspace(-1, 1, len(output))).square().mean().backward()
    return output.detach()


def with_large_weights(network: nn.Module) -> nn.Module:
    """Weights large enough that a wrong activation changes the output."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    return network


@pytest.mark.parametrize("name", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
@pytest.mark.parametrize("backbone", ["hrnet", "resnet50"])
def test_every_parameter_gets_a_gradient(tiny_cfg: CfgNode, name: str, backbone: str) -> None:
    tiny_cfg.MODEL.NAME = name
    tiny_cfg.MODEL.BACKBONE = backbone
    network = build_network(tiny_cfg, COCO)
    train_step(network, torch.rand(2, 3, 64, 64))
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


def test_heads_share_nothing_but_the_features(tiny_cfg: CfgNode) -> None:
    network = build_network(tiny_cfg, COCO)
    network(torch.rand(1, 3, 64, 64)).offsets[1].sum().backward()
    for key, parameter in network.named_parameters():
        if key.startswith("heads.global_head"):
            assert parameter.grad is None, key
        elif not key.startswith("heads.local_head.predict"):
            assert parameter.grad is not None, key


@pytest.mark.parametrize("sync_bn", [False, True])
@pytest.mark.parametrize("backbone", ["hrnet", "resnet50"])
def test_checkpointed_activations_change_nothing(
    tiny_cfg: CfgNode, backbone: str, sync_bn: bool
) -> None:
    tiny_cfg.MODEL.BACKBONE = backbone
    tiny_cfg.MODEL.HEAD_BLOCKS = 1
    tiny_cfg.MODEL.DECONV_BLOCKS = 1
    plain = with_large_weights(build_network(tiny_cfg, COCO))
    tiny_cfg.MODEL.CHECKPOINT_ACTIVATIONS = True
    checkpointed = build_network(tiny_cfg, COCO)
    checkpointed.load_state_dict(plain.state_dict())
    if sync_bn:
        checkpointed = nn.SyncBatchNorm.convert_sync_batchnorm(checkpointed)

    images = torch.rand(2, 3, 64, 96)
    for _ in range(2):
        assert torch.equal(train_step(plain, images), train_step(checkpointed, images))

    gradients = zip(plain.named_parameters(), checkpointed.parameters(), strict=True)
    for (key, parameter), other in gradients:
        assert parameter.grad is not None and other.grad is not None, key
        assert torch.equal(parameter.grad, other.grad), key
    buffers = zip(plain.named_buffers(), checkpointed.buffers(), strict=True)
    for (key, buffer), other_buffer in buffers:
        assert torch.equal(buffer, other_buffer), key
    norms = [module for module in checkpointed.modules() if hasattr(module, "momentum")]
    assert norms and all(norm.momentum == 0.1 for norm in norms)


@pytest.mark.parametrize("backbone", ["hrnet", "resnet50"])
def test_checkpointing_saves_memory(tiny_cfg: CfgNode, backbone: str) -> None:
    tiny_cfg.MODEL.BACKBONE = backbone
    saved_elements = []
    for enabled in (False, True):
        tiny_cfg.MODEL.CHECKPOINT_ACTIVATIONS = enabled
        network = build_network(tiny_cfg, COCO)
        parameters = {parameter.data_ptr() for parameter in network.parameters()}
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(torch.rand(1, 3, 64, 64))
        activations = [size for pointer, size in sizes.items() if pointer not in parameters]
        saved_elements.append(sum(activations))
        assert flat(output).requires_grad
    assert saved_elements[1] < 0.4 * saved_elements[0]


def test_channels_last_changes_no_number(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.CHANNELS_LAST = False
    plain = with_large_weights(build_network(tiny_cfg, COCO))
    last = copy.deepcopy(plain)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(2, 3, 64, 64)
    expected = train_step(plain, images)
    got = train_step(last, images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    output = last(images.to(memory_format=torch.channels_last))
    assert all(
        maps.is_contiguous(memory_format=torch.channels_last)
        for maps in (output.heatmaps[1], *output.offsets)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(tiny_cfg: CfgNode, dtype: torch.dtype) -> None:
    network = build_network(tiny_cfg, COCO)
    images = torch.rand(1, 3, 64, 64)
    exact = flat(network(images)).detach()
    with torch.autocast("cpu", dtype=dtype):
        output = network(images)
    assert output.tags.dtype == dtype
    flat(output).float().square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
    error = (flat(output).detach().float() - exact).square().mean() / exact.square().mean()
    assert error < 0.1  # the normalisation of a few cells with 8 bits of mantissa


def test_upsampled_sums() -> None:
    maps = [torch.rand(2, 3, 8 >> step, 16 >> step, dtype=torch.float64) for step in range(3)]
    for mode, total in (("nearest", _sum_nearest(maps)), ("bilinear", _sum_bilinear(maps))):
        expected = sum(interpolate(m, size=(16, 32), mode=mode) for m in maps)
        torch.testing.assert_close(total, expected)


def test_compiled_and_checkpointed_training_step_is_the_same(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.BLOCKS = tiny_cfg.MODEL.DECONV_BLOCKS = tiny_cfg.MODEL.HEAD_BLOCKS = 1
    tiny_cfg.MODEL.CHECKPOINT_ACTIVATIONS = True
    network = build_network(tiny_cfg, COCO)
    twin = copy.deepcopy(network)
    images = torch.rand(2, 3, 64, 64)
    compiled = train_step(torch.compile(twin, backend="aot_eager"), images)
    torch.testing.assert_close(compiled, train_step(network, images), rtol=1e-4, atol=1e-6)
    for (key, buffer), other in zip(network.named_buffers(), twin.buffers(), strict=True):
        message = f"{key}: {{}}".format
        torch.testing.assert_close(other, buffer, rtol=1e-4, atol=1e-7, msg=message)
