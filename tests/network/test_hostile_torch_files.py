"""Weight files of others: each is one sentence, nothing is executed, and memory is bounded."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from duopose.errors import UserError
from duopose.network import load_weights, read_model_file
from duopose.network.torch_files import NoTorchFile, TorchFileError, read_torch_content

CANARY = "/tmp/duopose_canary_of_the_tests"


MANY = torch.zeros(100_000)


class Command:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


class Call:
    """Unpickling it calls a function that torch allows."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def repacked(content: bytes, method: int, extra: dict[str, bytes] | None = None) -> bytes:
    """The same members in another zip; extra: more members, or others in their place."""
    source = zipfile.ZipFile(io.BytesIO(content))
    members = {info.filename: source.read(info) for info in source.infolist()} | (extra or {})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return buffer.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """A file of torch.save with another list of objects."""
    return repacked(saved({}), zipfile.ZIP_STORED, {"archive/data.pkl": pickled})


def flipped_bit() -> bytes:
    content = saved({"a": torch.zeros(1000)})
    middle = content.index(bytes(2000)) + 1000
    return content[:middle] + b"\x40" + content[middle + 1 :]


def encrypted() -> bytes:
    content = bytearray(saved({"a": torch.zeros(3)}))
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    return bytes(content)


def duplicate_member() -> bytes:
    content = saved({"a": torch.zeros(3)})
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/DATA.PKL", b"\x80\x02}.")
    return buffer.getvalue()


def nested_list(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def shared_lists() -> Any:
    """2^30 entries in a hundred bytes."""
    value: Any = [1]
    for _ in range(30):
        value = [value, value]
    return value


def own_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def ordered_dict_with_methods() -> Any:
    state = OrderedDict(a=torch.zeros(3))
    state.__dict__["values"] = "no method"
    return state


def quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


def huge_storage() -> bytes:
    """A legacy file that promises 10^15 numbers."""
    content = saved({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    return content.replace(b"K\x03", b"\x8a\x07" + (10**15).to_bytes(7, "little"))


Make = Callable[[], bytes]
LEGACY = {"_use_new_zipfile_serialization": False}
UNREADABLE: dict[str, Make] = {
    "empty": lambda: b"",
    "text": lambda: b"<html>not found</html>",
    "PK": lambda: b"PK",
    "half": lambda: saved({"a": torch.zeros(1000)})[:3000],
    "without its end": lambda: saved({"a": torch.zeros(1000)})[:-30],
    "half a legacy file": lambda: saved({"a": torch.zeros(1000)}, **LEGACY)[:2000],
    "start of a pickle": lambda: b"\x80\x02",
    "plain pickle": lambda: pickle.dumps({"a": [1.0]}),
    "flipped bit": flipped_bit,
    "deflated": lambda: repacked(saved({"a": torch.zeros(3)}), zipfile.ZIP_DEFLATED),
    "bzip2": lambda: repacked(saved({"a": torch.zeros(3)}), zipfile.ZIP_BZIP2),
    "lzma": lambda: repacked(saved({"a": torch.zeros(3)}), zipfile.ZIP_LZMA),
    "encrypted": encrypted,
    "duplicate member": duplicate_member,
    "other zip": lambda: repacked(saved({}), 0, {"other/file": b"x"}),
    "zip of nothing": lambda: b"PK\x05\x06" + bytes(18),
    "TorchScript": lambda: repacked(saved({}), 0, {"archive/constants.pkl": b"\x80\x02)."}),
    "command": lambda: saved({"a": Command()}),
    "legacy command": lambda: saved({"a": Command()}, **LEGACY),
    "class": lambda: saved({"a": Path("x")}),
    "bytearray of 10 GB": lambda: saved({"a": Call(bytearray, 10**10)}),
    "eval": lambda: saved({"a": Call(eval, "1")}),
    "sparse": lambda: saved({"a": torch.eye(3).to_sparse()}),
    "sparse rows": lambda: saved({"a": torch.eye(3).to_sparse_csr()}),
    "quantised": lambda: saved({"a": quantised()}),
    "nested": lambda: saved({"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}),
    "meta": lambda: saved({"a": torch.zeros(3, device="meta")}),
    "expanded": lambda: saved({"a": torch.zeros(1).expand(10**9)}),
    "many views": lambda: saved({str(i): MANY[i : i + 90_000] for i in range(300)}),
    "own list": lambda: with_pickle(pickle.dumps({"a": own_list()}, 2)),
    "shared lists": lambda: saved({"a": shared_lists()}),
    "deep lists": lambda: saved({"a": nested_list(300)}),
    "large integer": lambda: with_pickle(b"\x80\x02]\x8a\xff" + b"\x7f" * 255 + b"a."),
    "integer of a megabyte": lambda: with_pickle(
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b"."
    ),
    "no end of the list": lambda: with_pickle(b"\x80\x02}"),
    "unknown operation": lambda: with_pickle(b"\x80\x02\xfe."),
    "key of a tuple": lambda: saved({(1, 2): torch.zeros(3)}),
    "missing values": lambda: with_pickle(
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(3)}))).read("archive/data.pkl")
    ),
    "legacy storage of a petabyte": huge_storage,
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_are_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(UNREADABLE[name]())
    with pytest.raises(TorchFileError):
        read_torch_content(path)
    with pytest.raises(UserError, match=r"weights\.pth"):
        load_weights(nn.Linear(1, 1), path)
    assert not Path(CANARY).exists()


READABLE: dict[str, Any] = {
    "values": {"a": 1, "b": 2.5, "c": "text", "d": None, "e": [1, (2, 3)], "f": True, "g": b"x"},
    "tensors": {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(3)},
    "parameter": {"a": nn.Parameter(torch.ones(2))},
    "empty tensor": {"a": torch.zeros(0, 3)},
    "channels last": {"a": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)},
    "half": {"a": torch.ones(2).half(), "b": torch.ones(2).bfloat16()},
}


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", READABLE)
def test_files_that_are_read(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(READABLE[name], **options))
    content = read_torch_content(path)
    assert list(content) == list(READABLE[name])
    for key, expected in READABLE[name].items():
        if isinstance(expected, torch.Tensor):
            assert torch.equal(content[key], expected) and type(content[key]) is torch.Tensor
            assert content[key].stride() == expected.stride()
        else:
            assert content[key] == expected


def test_ordered_dicts_lose_their_attributes(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(ordered_dict_with_methods()))
    content = read_torch_content(path)
    assert type(content) is dict and len(list(content.values())) == 1


@pytest.mark.parametrize("name", ["fifo", "folder", "missing", "loop", "/dev/zero"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TorchFileError):
        read_torch_content(tmp_path / name)


def test_a_sparse_file_of_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(1 << 40)
    with pytest.raises(TorchFileError, match="limit"):
        read_torch_content(path)


def test_kinds_of_errors(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"no zip")
    with pytest.raises(NoTorchFile):
        read_torch_content(path)


# ---- what is in a file ----


class Small(nn.Module):
    """A network with a backbone, as `load_weights` expects it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"backbone.weight": torch.full((2, 3), float("nan"))}, "NaN"),
        ({"backbone.weight": torch.full((2, 3), float("inf"))}, "infinite"),
        ({"backbone.weight": torch.ones(2, 3, dtype=torch.int64)}, "int64"),
        ({"backbone.weight": torch.ones(2, 3, dtype=torch.complex64)}, "complex"),
        ({"backbone.weight": torch.ones(3, 2)}, "shapes"),
        (
            {"module.backbone.weight": torch.ones(2, 3), "backbone.weight": torch.ones(2, 3)},
            "twice",
        ),
        ({1: torch.ones(2)}, "no tensor"),
        ({"state_dict": 3}, "no weights"),
        ({"state_dict": {"a": [1]}}, "no weights"),
        ([1, 2], "list"),
    ],
)
def test_contents_that_do_not_fit(tmp_path: Path, content: Any, word: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=word):
        load_weights(Small(), path)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": 3}, {"config": "x" * 2_000_000}, {"skeleton": [1]}, {"skeleton": {1: 2}},
        {"extra": "text"}, {"state_dict": 3}, {"state_dict": {"a": 3}}, {"state_dict": {1: {}}},
    ],
)  # fmt: skip
def test_model_files_of_other_forms(tmp_path: Path, changes: dict[str, Any]) -> None:
    content: dict[str, Any] = {"state_dict": {"a": torch.ones(2)}, "config": "", "skeleton": {}}
    path = tmp_path / "model.pth"
    torch.save(content | {"extra": {}}, path)
    assert list(read_model_file(path).state_dict) == ["a"]
    torch.save(content | changes, path)
    with pytest.raises(UserError, match=r"model\.pth"):
        read_model_file(path)
