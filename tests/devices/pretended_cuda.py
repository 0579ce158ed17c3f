"""A pretended CUDA device on the CPU, which counts the moments at which the host waits for it.

A `PretendedTensor` computes on a CPU tensor inside it, and says that it is on cuda:0. Code that
asks for the device takes its CUDA branches. The rules are those of torch's CUDA backend:

- The host waits where a value or a size must reach it: item, bool, nonzero, a boolean index,
  unique; in a copy to the host or to the device that is not both from or to pinned memory and
  non_blocking. A tensor with gaps, such as a column of a matrix, is copied to ordinary memory
  first, also where it is pinned.
- An operation refuses tensors of both devices. Exceptions: copies, numbers of no dimension, indices
  (these are copied, for which the host waits).

What it cannot show: the time of anything, waits inside CUDA's libraries, the order of streams.

`HostWaits` records each wait with the line of the project that caused it.
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from tests.devices.sync_bn_kernels import KERNELS
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from duopose.device_tensors import constant

DEVICE = torch.device("cuda", 0)
PROJECT = Path(__file__).resolve().parents[2]
OWN_FOLDERS = (str(PROJECT / "lib"), str(PROJECT / "tools"))

aten = torch.ops.aten
# Operations whose result has a size that depends on values, or that give a value to the host.
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten.copy_, aten._foreach_copy_}


class MixedDevicesError(RuntimeError):
    """Tensors of the CPU and of the device in one operation."""


class HostWaits:
    """What happened since the start or the last `clear`."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()  # "reason at file:line" -> waits
        self.events: list[bool] = []  # waits for a recorded event: whether without spinning
        self.kernels = 0  # operations that a device would launch, views excluded
        self.mixed_lists = 0  # operations on lists of several types, which CUDA does one by one
        self.debug_mode = "default"  # of torch.cuda.set_sync_debug_mode

    @property
    def count(self) -> int:
        """Waits for all work so far."""
        return self.lines.total()

    def add(self, reason: str) -> None:
        """One wait, by the line of the project that is being executed."""
        for frame in reversed(traceback.extract_stack()):
            if frame.filename.startswith(OWN_FOLDERS):
                where = f"{Path(frame.filename).relative_to(PROJECT)}:{frame.lineno}"
                break
        else:
            where = "outside of the project"
        self.lines[f"{reason} at {where}"] += 1
        if self.debug_mode == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    def set_debug_mode(self, mode: str) -> None:
        """torch.cuda.set_sync_debug_mode."""
        self.debug_mode = mode

    def clear(self) -> None:
        """Start to count anew."""
        self.lines.clear()
        self.events.clear()
        self.kernels = 0
        self.mixed_lists = 0

    def table(self) -> str:
        """The waits, most frequent first, for the message of a failing test."""
        rows = [f"{count:4}  {line}" for line, count in self.lines.most_common()]
        return "\n".join([f"{self.count} waits", *rows])


WAITS = HostWaits()


# ---- tensors ----


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device."""

    on_cpu: torch.Tensor  # the values

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> PretendedTensor:
        wrapped = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("cpu"),
        )
        wrapped.on_cpu = inner
        result: PretendedTensor = wrapped
        return result

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"PretendedTensor({self.on_cpu})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in GETTERS:
            return GETTERS[func]
        with torch._C.DisableTorchFunctionSubclass():
            handler = METHODS.get(getattr(func, "__name__", ""))
            if handler is not None:
                return handler(func, args, kwargs)
            if "device" in kwargs and kwargs["device"] is not None:
                assert torch.device(kwargs["device"]).type == "cuda", f"{func} to another device"
                kwargs["device"] = None
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Carry out an operation on the inner tensors; count it, and whether the host waits."""
    operation = func.overloadpacket
    flat, _ = tree_flatten((args, kwargs))
    on_host = [one for one in flat if is_on_host(one)]
    check_devices(func, operation, on_host)
    if operation in WAITING:
        WAITS.add(str(operation).removeprefix("aten."))
    elif operation in INDEXING:
        count_index_waits(args[1])
    elif operation in COPIES:
        count_copy_waits(args, kwargs)
    if not func.is_view:
        WAITS.kernels += 1
    if str(operation).startswith("aten._foreach"):
        tensors = [one for one in flat if isinstance(one, PretendedTensor)]
        WAITS.mixed_lists += len({one.dtype for one in tensors}) > 1

    inner_args = tree_map_only(PretendedTensor, inner_of, args)
    inner_kwargs = tree_map_only(PretendedTensor, inner_of, kwargs)
    result = KERNELS.get(operation, func)(*inner_args, **inner_kwargs)
    return wrap_result(func, result, args)


def inner_of(tensor: PretendedTensor) -> torch.Tensor:
    return tensor.on_cpu


def is_on_host(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, PretendedTensor)


def wrap_result(func: Any, result: Any, args: Sequence[Any]) -> Any:
    """Results on the device; what an operation changes in place is the argument itself."""
    if str(func.overloadpacket).removeprefix("aten.") == "_local_scalar_dense":
        return result
    first = func._schema.returns[0].alias_info if func._schema.returns else None
    if first is not None and first.is_write and not isinstance(result, (tuple, list)):
        return update_shape(args[0])
    if func.is_view and not args[0].is_inference():  # a view is of the same kind as its base
        with torch.inference_mode(False):
            return tree_map_only(torch.Tensor, PretendedTensor, result)
    return tree_map_only(torch.Tensor, PretendedTensor, result)


def update_shape(tensor: Any) -> Any:
    assert not isinstance(tensor, PretendedTensor) or tensor.shape == tensor.on_cpu.shape
    return tensor


def check_devices(func: Any, operation: Any, on_host: Sequence[torch.Tensor]) -> None:
    """MixedDevicesError where the CUDA backend would refuse the tensors of the host."""
    if operation in COPIES or operation in INDEXING:
        return
    large = [one for one in on_host if one.ndim]
    if large:
        raise MixedDevicesError(f"{func}: {len(large)} tensors are on the CPU, others on {DEVICE}")


def count_index_waits(indices: Sequence[Any]) -> None:
    for index in indices:
        if index is None:
            continue
        if is_on_host(index):
            WAITS.add("index from the host")
        if index.dtype in (torch.bool, torch.uint8):
            WAITS.add("boolean index")


def count_copy_waits(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """For copy_(target, source, non_blocking) and for lists of them."""
    non_blocking = bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))
    targets = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
    sources = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    for target, source in zip(targets, sources, strict=True):
        if is_on_host(target):
            pinned = getattr(target, "is_pretended_pinned", False)
            if not (non_blocking and pinned):
                WAITS.add("copy to the host")
        elif is_on_host(source):
            count_copy_to_device(source, non_blocking)


def count_copy_to_device(source: torch.Tensor, non_blocking: bool) -> None:
    """Without a wait where it is non_blocking, from pinned memory, and the source has no gaps."""
    is_pinned = getattr(source, "is_pretended_pinned", False)
    if not (non_blocking and is_pinned and not source.has_pretended_gaps):  # type: ignore[attr-defined]
        WAITS.add("copy to the device")


# ---- functions that would look at the device ----


def to_host(tensor: PretendedTensor) -> torch.Tensor:
    WAITS.add("copy to the host")
    return tensor.on_cpu.detach().clone()


def to_device(tensor: torch.Tensor, non_blocking: bool) -> torch.Tensor:
    """A copy; the inner tensor keeps the layout."""
    if isinstance(tensor, PretendedTensor):
        return tensor
    count_copy_to_device(tensor, non_blocking)
    moved = PretendedTensor(tensor.detach().clone())
    return moved.requires_grad_() if tensor.requires_grad and tensor.is_leaf else moved


def convert(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Tensor.to in its forms: device, type and layout in any combination."""
    tensor, *rest = args
    if rest and isinstance(rest[0], torch.Tensor):
        device, dtype = (DEVICE if isinstance(rest[0], PretendedTensor) else "cpu"), rest[0].dtype
        rest = []
    else:
        device = kwargs.pop("device", None)
        dtype = kwargs.pop("dtype", None)
        for value in rest:
            if isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, (str, torch.device)):
                device = value
            elif isinstance(value, bool):
                kwargs.setdefault("non_blocking", value)
    non_blocking = kwargs.get("non_blocking", False)

    if device is not None and torch.device(device).type == "cuda":
        tensor = to_device(tensor, non_blocking)
    elif device is not None and isinstance(tensor, PretendedTensor):
        tensor = to_host(tensor)
    options = {name: kwargs[name] for name in ("memory_format", "copy") if name in kwargs}
    if dtype is None:
        dtype = tensor.dtype
    with torch._C.DisableTorchFunctionSubclass():
        return torch.Tensor.to(tensor, dtype, **options)


def refuse_numpy(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")


GETTERS: dict[Any, Any] = {
    torch.Tensor.device.__get__: DEVICE,
    torch.Tensor.is_cuda.__get__: True,  # type: ignore[attr-defined]
    torch.Tensor.is_cpu.__get__: False,  # type: ignore[attr-defined]
}
METHODS: dict[str, Callable[[Any, Sequence[Any], dict[str, Any]], Any]] = {
    "cpu": lambda func, args, kwargs: to_host(args[0]),
    "cuda": lambda func, args, kwargs: args[0],
    "to": convert,
    "tolist": lambda func, args, kwargs: to_host(args[0]).tolist(),
    "numpy": refuse_numpy,
    "__array__": refuse_numpy,
    "is_pinned": lambda func, args, kwargs: False,
    "get_device": lambda func, args, kwargs: 0,
}


class PretendedMode(TorchFunctionMode):
    """Makes tensors on the device, and moves tensors of the host to it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "to":
            return (
                convert(func, args, kwargs) if names_cuda(args, kwargs) else func(*args, **kwargs)
            )
        if name == "cuda" and not isinstance(args[0], PretendedTensor):
            return to_device(args[0], bool(kwargs.get("non_blocking", False)))
        if name == "pin_memory":
            return pinned(args[0].clone(), with_gaps=has_gaps(args[0]))

        is_pinned = kwargs.pop("pin_memory", False)
        on_device = names_cuda((), kwargs) and not isinstance(args[0], PretendedTensor)
        if not on_device:
            result = func(*args, **kwargs)
            return pinned(result) if is_pinned else result
        kwargs.pop("device")
        if name in ("tensor", "as_tensor", "asarray"):
            WAITS.add("copy to the device")
        else:
            WAITS.kernels += 1
        requires_grad = kwargs.pop("requires_grad", False)
        return PretendedTensor(func(*args, **kwargs)).requires_grad_(requires_grad)


def has_gaps(tensor: torch.Tensor) -> bool:
    """Whether the values do not lie side by side in memory, in any order."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return tensor.numel() > 0 and last + 1 != tensor.numel()


def pinned(tensor: torch.Tensor, with_gaps: bool = False) -> torch.Tensor:
    tensor.is_pretended_pinned = True  # type: ignore[attr-defined]
    tensor.has_pretended_gaps = with_gaps  # type: ignore[attr-defined]
    return tensor


def names_cuda(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an argument is the device, or a tensor to whose device another one is moved."""
    for value in (*args[1:], kwargs.get("device")):
        if isinstance(value, PretendedTensor):
            return True
        if isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda":
            return True
    return False


# ---- parts of torch.cuda ----


class PretendedEvent:
    """An event; only the waits for it are recorded."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.blocking = blocking

    def record(self, *_: Any) -> None:
        """Nothing is late on this device."""

    def wait(self, *_: Any) -> None:
        """Another stream waits, not the host."""

    def synchronize(self) -> None:
        """The host waits for the work before the event, not for what was queued after it."""
        WAITS.events.append(self.blocking)


class PretendedStream:
    """A stream; there is no order of streams here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_event(self, _event: Any) -> None:
        """The stream waits, not the host."""

    def wait_stream(self, _stream: Any) -> None:
        """The stream waits, not the host."""

    def record_event(self, event: PretendedEvent | None = None) -> PretendedEvent:
        """The event that was given, or a new one."""
        return event or PretendedEvent()

    def synchronize(self) -> None:
        """The host waits for all work of the stream."""
        WAITS.add("stream.synchronize")


@contextmanager
def _pretended_stream(_stream: Any) -> Iterator[None]:
    yield


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    groups = _GROUP_TENSORS(lists, with_indices)
    return {(DEVICE, dtype): content for (_, dtype), content in groups.items()}


_GROUP_TENSORS = torch._C._group_tensors_by_device_and_dtype
_AUTOCAST = torch.autocast


def _autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
    return _AUTOCAST("cpu", *args, **kwargs)


@contextmanager
def pretended_cuda() -> Iterator[HostWaits]:
    """Inside, DEVICE is the pretended device; only in this thread."""
    swap = torch.__future__.get_swap_module_params_on_conversion()
    patches = {
        "torch.cuda.Event": PretendedEvent,
        "torch.cuda.Stream": PretendedStream,
        "torch.cuda.stream": _pretended_stream,
        "torch.cuda.current_stream": PretendedStream,
        "torch.cuda.set_sync_debug_mode": WAITS.set_debug_mode,
        "torch.accelerator.is_available": lambda: True,  # else a DataLoader pins nothing
        "torch.cuda.synchronize": lambda *_: WAITS.add("torch.cuda.synchronize"),
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch._C._group_tensors_by_device_and_dtype": _grouped,
        "torch.autocast": _autocast,
    }
    WAITS.clear()
    constant.cache_clear()
    with ExitStack() as stack:
        stack.callback(constant.cache_clear)
        for name, replacement in patches.items():
            stack.enter_context(mock.patch(name, replacement))
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        stack.enter_context(PretendedMode())
        yield WAITS
