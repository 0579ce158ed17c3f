"""The pretended device follows the rules of torch's CUDA backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits, MixedDevicesError

from duopose.decode.map_reading import Cells, read_cells
from duopose.device_tensors import send

COLUMN = torch.ones(3, 2)[:, 0]
Calculation = Callable[[torch.Tensor], object]

WAITING: dict[str, tuple[Calculation, int]] = {
    "item": (lambda x: x.sum().item(), 1),
    "float": (lambda x: float(x.sum()), 1),
    "if": (lambda x: bool(x.sum() > 0), 1),
    "tolist": (lambda x: x.tolist(), 1),
    "cpu": (lambda x: x.cpu(), 1),
    "to cpu": (lambda x: x.to("cpu"), 1),
    "nonzero": (lambda x: x.nonzero(as_tuple=True), 1),
    "boolean index": (lambda x: x[x > 0], 1),
    "boolean assignment": (lambda x: x.index_put_((x > 0,), torch.zeros_like(x.sum())), 1),
    "masked_select": (lambda x: x.masked_select(x > 0), 1),
    "unique": (lambda x: x.unique(), 1),
    "index from the host": (lambda x: x[torch.tensor([0, 1])], 1),
    "a constant": (lambda x: torch.tensor([1.0, 2.0, 3.0], device=x.device), 1),
    "a copy to the device": (lambda x: torch.ones(3).to(x.device), 1),
    "a copy into a tensor": (lambda x: x.copy_(torch.ones(4, 3)), 1),
    "without pinned memory": (lambda x: torch.empty(4, 3).copy_(x, non_blocking=True), 1),
    "synchronize": (lambda x: torch.cuda.synchronize(), 1),
    "stream": (lambda x: torch.cuda.current_stream().synchronize(), 1),
    "arithmetic": (lambda x: torch.where(x > 0, x, 0) + torch.arange(3, device=x.device), 0),
    "index": (lambda x: x[x.argmax(dim=0)], 0),
    "made on the device": (lambda x: torch.zeros(3, device=x.device) + x.new_ones(3), 0),
    "from ordinary memory": (lambda x: torch.ones(3).to(x.device, non_blocking=True), 1),
    "with gaps": (lambda x: COLUMN.pin_memory().to(x.device, non_blocking=True), 1),
    "blocking": (lambda x: torch.ones(3).pin_memory().to(x.device), 1),
    "from pinned memory": (lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True), 0),
    "sent": (lambda x: send(COLUMN, x.device), 0),
    "pinned": (lambda x: torch.empty(4, 3, pin_memory=True).copy_(x, non_blocking=True), 0),
    "layout": (lambda x: x.to(torch.float16).contiguous().to(x.device), 0),
}


@pytest.mark.parametrize("name", WAITING)
def test_waits_are_counted(name: str, host_waits: HostWaits) -> None:
    calculation, expected = WAITING[name]
    x = torch.linspace(-1, 1, 12, device=DEVICE).view(4, 3)
    host_waits.clear()
    calculation(x)
    assert host_waits.count == expected, host_waits.table()


def test_a_wait_of_the_project_is_listed_with_its_line(host_waits: HostWaits) -> None:
    maps = torch.zeros(1, 4, 4, device=DEVICE)
    one = torch.zeros(1, dtype=torch.int64).numpy()
    read_cells([Cells(maps, one, one, one)])
    assert host_waits.lines
    assert all("lib/duopose/decode/map_reading.py:" in line for line in host_waits.lines)


def test_mixed_devices_are_refused(host_waits: HostWaits) -> None:
    x = torch.ones(3, device=DEVICE)
    for other in (torch.ones(3), torch.ones(1)):
        with pytest.raises(MixedDevicesError):
            x + other
        with pytest.raises(MixedDevicesError):
            torch.cat([other, x])
    assert float((x + torch.tensor(2.0)).sum()) == 9.0  # a number of no dimension is allowed
    with pytest.raises(TypeError):
        x.numpy()


def test_tensors_of_the_device_say_so(host_waits: HostWaits) -> None:
    layer = torch.nn.Linear(3, 3).to(DEVICE)
    host_waits.clear()
    layer(torch.ones(2, 3, device=DEVICE)).sum().backward()
    gradient = layer.weight.grad
    assert gradient is not None
    for tensor in (layer.weight, gradient, gradient.half(), torch.zeros_like(gradient)):
        assert tensor.device == DEVICE and tensor.is_cuda and not tensor.is_cpu
    assert not host_waits.count
    assert gradient.cpu().device.type == "cpu"


def test_lists_of_several_types_are_counted(host_waits: HostWaits) -> None:
    floats = [torch.ones(2, device=DEVICE) for _ in range(3)]
    whole = [torch.ones(2, dtype=torch.int64, device=DEVICE)]
    torch._foreach_copy_(floats, [one.clone() for one in floats])
    assert host_waits.mixed_lists == 0
    torch._foreach_copy_([*floats, *whole], [*floats, *whole])
    assert host_waits.mixed_lists == 1
