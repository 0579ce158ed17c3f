"""The one reader of files of torch.save: weights and checkpoints, of any origin.

Nothing in a file is executed. Before torch sees a file, its list of objects is read: only tensors,
plain values and their containers may be asked for. In a zip, which torch has written since 2020,
members are stored as they are and carry checksums, which torch does not compare. So the memory that
a file takes is bounded by its size, and a flipped bit is found.

Limits: MAX_FILE_BYTES, MAX_LIST_BYTES, MAX_OPERATIONS, MAX_DEPTH, MAX_SHARING.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from duopose.regular_files import open_regular, reason_of
from duopose.zip_members import ENCRYPTED

MAX_FILE_BYTES = 2 << 30  # the largest network here, with moments and averages, has half of it
MAX_LIST_BYTES = 16 << 20  # of the list of objects: 1 MB for a checkpoint of HRNet-w48
MAX_OPERATIONS = 2_000_000  # in that list: 100,000 for a checkpoint of HRNet-w48
MAX_DEPTH = 32  # of containers in each other
MAX_SHARING = 4  # bytes of all tensors / bytes of the file: tensors may share their values
MAX_INTEGER = 1 << 64

ZIP_START = b"PK"
PICKLE_START = b"\x80"
LEGACY_LISTS = 5  # of files before 2020: magic number, version, system, objects, names of values

_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_CONTAINERS = ("collections OrderedDict", "collections Counter", "torch Size", "torch device",
               "_codecs encode", "__builtin__ set", "builtins set")  # fmt: skip
# Objects that torch would make, and why none of them is taken.
_REFUSED_TENSORS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor of the device meta, which has no values",
    "_rebuild_wrapper_subclass": "a tensor of another class",
    "_rebuild_from_type_v2": "a tensor of another class",
    "_rebuild_parameter_with_state": "a tensor with other attributes",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


class TorchFileError(ValueError):
    """A file cannot be used; the text goes on after its name."""


class NoTorchFile(TorchFileError):
    """The file is whole, but not one of torch.save."""


def read_torch_content(path: str | Path, with_tensors: bool = True) -> Any:
    """What torch.save has put into a file, on the CPU, as new dicts, lists, tuples and tensors.

    Tensors are dense and on the CPU; all other values are numbers, texts, bytes and None.
    with_tensors: False reads the other values alone: tensors stay in the file, and their checksums
    are not compared. TorchFileError where the file is missing, damaged, or holds anything else.
    """
    try:
        with open_regular(path, MAX_FILE_BYTES) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            _check_file(file, size, with_tensors)
            file.seek(0)
            source = file if with_tensors else str(path)
            content = torch.load(
                source, map_location="cpu", weights_only=True, mmap=not with_tensors
            )
    except TorchFileError:
        raise
    except OSError as error:
        raise TorchFileError(f"cannot be read ({reason_of(error)})") from error
    except Exception as error:  # a damaged file can make the readers raise anything
        raise TorchFileError(f"is damaged or not complete ({_first_line(error)})") from error
    _check_number(content)
    return _Copier(size).copy(content)


def _check_file(file: BinaryIO, size: int, with_tensors: bool) -> None:
    """TorchFileError, or any error of the readers, where torch must not open the file."""
    start = file.read(2)
    file.seek(0)
    if not start:
        raise NoTorchFile("is empty (0 bytes)")
    if start == ZIP_START:
        with zipfile.ZipFile(file) as archive:
            _check_archive(archive, size, with_tensors)
    elif start[:1] == PICKLE_START:
        lists = io.BytesIO(file.read(MAX_LIST_BYTES))
        for _ in range(LEGACY_LISTS):
            _check_list(lists)
    else:
        raise NoTorchFile("is no file of torch.save")


def _check_archive(archive: zipfile.ZipFile, size: int, with_tensors: bool) -> None:
    """Members as torch.save writes them: in one folder, stored, with right checksums."""
    members = archive.infolist()
    names = [member.filename.lower() for member in members]  # torch does not look at the case
    folder = names[0].partition("/")[0] if names else ""
    if len(set(names)) < len(names) or not all(name.startswith(f"{folder}/") for name in names):
        raise NoTorchFile("is no file of torch.save: its members are not in one folder")

    for member in members:
        if member.flag_bits & ENCRYPTED:
            raise TorchFileError(f"is encrypted ({member.filename})")
        if member.compress_type != zipfile.ZIP_STORED:
            raise TorchFileError(
                f"is compressed ({member.filename}), which torch.save never does: unpack it and "
                "pack it again without compression, or save the weights anew"
            )
    if sum(member.file_size for member in members) > size:
        raise TorchFileError("is damaged: its members are larger than the file")
    if f"{folder}/constants.pkl" in names:
        raise TorchFileError("is a TorchScript file, which can execute code, and is not loaded")
    if f"{folder}/data.pkl" not in names:
        raise NoTorchFile("is a zip, but no file of torch.save")

    damaged = archive.testzip() if with_tensors else None
    if damaged is not None:
        raise TorchFileError(f"is damaged: the checksum of {damaged} is wrong")
    listed = members[names.index(f"{folder}/data.pkl")]
    if listed.file_size > MAX_LIST_BYTES:
        raise TorchFileError(f"has a list of objects of {listed.file_size} bytes")
    _check_list(io.BytesIO(archive.read(listed)))


def _check_list(pickled: BinaryIO) -> None:
    """TorchFileError where a pickle asks for other objects than tensors and plain values."""
    number = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if number > MAX_OPERATIONS:
            raise TorchFileError(f"has a list of objects of more than {MAX_OPERATIONS} entries")
        if operation.name == "GLOBAL":
            _check_object(str(argument))
        elif operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise TorchFileError(_NOT_PLAIN.format(operation.name))


_NOT_PLAIN = (
    "holds objects other than tensors and plain values, or is damaged; such a file can execute "
    "code and is not loaded. If you trust it, save its tensors alone ({})"
)


def _check_object(name: str) -> None:
    """name: module and name, with a space between them, as pickletools gives it."""
    module, _, function = name.partition(" ")
    if module in ("torch._utils", "torch._tensor") and function in _REFUSED_TENSORS:
        kind = _REFUSED_TENSORS[function]
        raise TorchFileError(f"holds {kind}; save its weights as ordinary tensors")

    is_tensor = module == "torch._utils" and function in _TENSORS
    is_storage = module in ("torch", "torch.storage") and function.endswith("Storage")
    is_type = module == "torch" and isinstance(getattr(torch, function, None), torch.dtype)
    if not (is_tensor or is_storage or is_type or name in _CONTAINERS):
        raise TorchFileError(_NOT_PLAIN.format(name.replace(" ", ".")[:100]))


def _check_number(content: Any) -> None:
    """TorchFileError where containers that are in several places make too many values."""
    counts: dict[int, int] = {}  # id of a container -> values in it

    def count(value: Any, depth: int) -> int:
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if depth > MAX_DEPTH:
            raise TorchFileError(f"holds containers that are more than {MAX_DEPTH} deep")
        if id(value) not in counts:
            elements = dict.values(value) if isinstance(value, dict) else iter(value)
            counts[id(value)] = 1 + sum(count(element, depth + 1) for element in elements)
        return counts[id(value)]

    if count(content, 0) > MAX_OPERATIONS:
        raise TorchFileError(f"holds more than {MAX_OPERATIONS} values")


class _Copier:
    """Copies containers, so that none has attributes or methods of its own; checks all values."""

    def __init__(self, file_bytes: int) -> None:
        self.bytes_left = MAX_SHARING * file_bytes + MAX_LIST_BYTES
        self._tensors: dict[int, torch.Tensor] = {}

    def copy(self, value: Any) -> Any:
        """The plain value; TorchFileError where it is none."""
        if value is None or isinstance(value, bool | float | str | bytes):
            return value
        if isinstance(value, int):
            if abs(value) >= MAX_INTEGER:
                raise TorchFileError("holds a whole number of more than 64 bits")
            return value
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            if id(value) not in self._tensors:
                self._tensors[id(value)] = self._checked_tensor(value)
            return self._tensors[id(value)]
        return self._copy_object(value)

    def _copy_object(self, value: Any) -> Any:
        kind = type(value)
        if kind in (dict, OrderedDict, Counter):
            entries = dict.items(value)  # the object may have attributes of these names
            return {_checked_key(key): self.copy(entry) for key, entry in entries}
        if kind in (list, set):
            return [self.copy(element) for element in value]
        if kind in (tuple, torch.Size):
            return tuple(self.copy(element) for element in value)
        if kind in (torch.device, torch.dtype):
            return str(value)
        raise TorchFileError(f"holds a {kind.__name__}; tensors and plain values are read")

    def _checked_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        is_plain = tensor.layout is torch.strided and not tensor.is_quantized
        if not is_plain or tensor.is_nested or tensor.device.type != "cpu":
            raise TorchFileError(
                "holds a tensor that is sparse, quantised, nested or has no values"
            )

        num_bytes = math.prod(tensor.shape) * tensor.element_size()
        if num_bytes > tensor.untyped_storage().nbytes():
            raise TorchFileError(
                f"holds a tensor of {tuple(tensor.shape)} that repeats fewer values; save it with "
                "tensor.clone()"
            )
        self.bytes_left -= num_bytes
        if self.bytes_left < 0:
            raise TorchFileError("holds tensors that share the same values many times over")
        return tensor.detach()


def _checked_key(key: Any) -> str | int | float | bool | None:
    if key is None or isinstance(key, str | bool | float):
        return key
    if isinstance(key, int) and abs(key) < MAX_INTEGER:
        return key
    raise TorchFileError(f"holds a dictionary with a key of type {type(key).__name__}")


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
