"""Reading of maps at points, against loops over the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits
from torch.overrides import TorchFunctionMode

from duopose.decode.map_reading import (
    Cells,
    count_window_overlaps,
    predicted_targets,
    read_cells,
    read_together,
)
from duopose.types import MapLayer


def empty_layer(factor: float) -> MapLayer:
    factors = np.array([factor, abs(factor)])
    return MapLayer(torch.zeros(1, 4, 4), factors, np.zeros(2), np.array([0]))


def test_overlaps_are_counted_within_a_joint_type_and_per_layer() -> None:
    generator = np.random.default_rng(0)
    joint = np.sort(generator.integers(0, 4, 30))
    points = generator.uniform(0, 100, (30, 2))
    layers = [empty_layer(0.25), empty_layer(-0.25), empty_layer(0.5)]
    found = count_window_overlaps(layers, joint, points, radius=4)
    for index, limit in enumerate((20, 20, 10)):
        for peak in range(30):
            near = np.abs(points - points[peak]).max(axis=1) <= limit
            same_type = joint == joint[peak]
            assert found[peak, index] == np.count_nonzero(near & same_type) - 1


def test_overlaps_without_peaks_and_without_layers() -> None:
    no_joints = np.zeros(0, int)
    assert count_window_overlaps([empty_layer(0.5)], no_joints, np.zeros((0, 2)), 7).shape == (0, 1)
    assert count_window_overlaps([], np.array([0, 0]), np.zeros((2, 2)), 7).shape == (2, 0)


def memory_layouts() -> dict[str, torch.Tensor]:
    """The same maps (2, 3, 4) in every layout and type in which they can come."""
    maps = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    wider = torch.zeros(1, 5, 3, 4).contiguous(memory_format=torch.channels_last)
    wider[0, 1:3] = maps
    return {
        "contiguous": maps,
        "channels last": maps[None].contiguous(memory_format=torch.channels_last)[0],
        "slice of channels last": wider[0, 1:3],
        "rows last": maps.permute(0, 2, 1).contiguous().permute(0, 2, 1),
        "half": maps.half(),
        "bfloat16": maps.bfloat16(),
        "needs gradient": maps.clone().requires_grad_(),
    }


@pytest.mark.parametrize("layout", list(memory_layouts()))
def test_cells_are_read_in_any_layout_and_type(layout: str) -> None:
    channel = np.array([1, 0])
    row = np.array([[2, 1], [0, 2]])
    column = np.array([[3, 0], [1, 2]])
    (found,) = read_cells([Cells(memory_layouts()[layout], channel, row, column)])
    assert found.dtype == np.float64
    assert found.tolist() == [[12 + 8 + 3, 4 + 0], [12 + 0 + 1, 8 + 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_copies_no_map(dtype: torch.dtype) -> None:
    """The map has one value in memory; a copy of it would need a terabyte."""
    maps = torch.full((1, 1, 1), 5.0, dtype=dtype).expand(64, 100_000, 100_000)
    (found,) = read_cells([Cells(maps, np.array([3]), np.array([50_000]), np.array([7]))])
    assert found.tolist() == [5.0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_offsets_point_to_the_target_at_any_scale(mirrored: bool) -> None:
    """target = (cell + unit * offset - shift) / factor, per axis; y is the first channel."""
    target = np.array([40.0, 22.0])
    point = np.array([[30.0, 18.0]])
    factor = np.array([-0.5 if mirrored else 0.5, 0.5])
    shift = np.array([31.0 if mirrored else 0.0, 0.0])
    columns, rows = np.meshgrid(np.arange(32), np.arange(32))
    target_cell = target * factor + shift
    unit = 4.0
    offset_x = (target_cell[0] - columns) / unit
    offset_y = (target_cell[1] - rows) / unit
    maps = torch.from_numpy(np.stack([offset_y, offset_x]).astype(np.float32))
    layer = MapLayer(maps, factor, shift, np.array([0]), 0.0, unit)
    one = np.zeros(1, int)
    (found,) = read_together(predicted_targets([layer], one, one, point, np.ones((1, 1))))
    assert found[0] == pytest.approx(target, abs=1e-4)


class WithoutFloat64(TorchFunctionMode):
    """Tensors are on a device without float64, such as Apple's, until `.cpu()` has copied them."""

    def __init__(self) -> None:
        super().__init__()
        self.on_host: list[torch.Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        is_copy = function is torch.Tensor.cpu
        from_host = bool(args) and any(args[0] is tensor for tensor in self.on_host)
        if isinstance(result, torch.Tensor):
            if is_copy or from_host:
                self.on_host.append(result)
            elif result.dtype == torch.float64:
                raise TypeError("this device has no float64")
        return result


def test_values_are_read_on_devices_without_float64() -> None:
    maps = torch.arange(24, dtype=torch.float16).reshape(2, 3, 4)
    with WithoutFloat64():
        (found,) = read_cells([Cells(maps, np.array([1]), np.array([2]), np.array([3]))])
        with pytest.raises(TypeError, match="float64"):
            maps.double()
    assert found.tolist() == [23] and found.dtype == np.float64


def test_cells_of_several_maps_come_from_a_gpu_in_one_copy(host_waits: HostWaits) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 8, 9, generator=generator) for _ in range(2)]
    one = (np.array([0, 2]), np.array([[7], [1]]), np.array([3, 0]))
    nothing = (np.zeros(0, int),) * 3
    wanted = [(maps[0], one), (maps[1].half(), one), (maps[1], nothing)]
    expected = read_cells([Cells(values, *index) for values, index in wanted])
    on_device = [Cells(values.to(DEVICE), *index) for values, index in wanted]

    host_waits.clear()
    found = read_cells(on_device)
    assert host_waits.count == 1, host_waits.table()
    assert [one.shape for one in found] == [(2, 2), (2, 2), (0,)]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
