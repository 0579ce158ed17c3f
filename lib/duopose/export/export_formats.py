"""Writing a network as ONNX, TorchScript or OpenVINO's IR, with its description."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import Dim

from duopose.errors import UserError
from duopose.network.flat_network import INPUT_NAME, FlatNetwork
from duopose.network.pose_net import INPUT_MULTIPLE
from duopose.network.runtimes import OPENVINO_SECTION

OPSET = 20  # the default of torch 2.13; tried with onnxruntime 1.32
# The network is run once on this batch. Sides and batch differ, so that none is taken for another.
EXAMPLE_SHAPE = (2, 3, 2 * INPUT_MULTIPLE, 3 * INPUT_MULTIPLE)


class ExportFormat(NamedTuple):
    """A format of tools/export.py."""

    suffix: str
    packages: tuple[str, ...]  # that writing and checking need, beside torch
    # Called as write(network, names of the maps, description, path); the files that it wrote, the
    # one to load last.
    write: Callable[[FlatNetwork, Sequence[str], Mapping[str, str], Path], list[Path]]


def write_onnx(
    network: FlatNetwork, names: Sequence[str], description: Mapping[str, str], path: Path
) -> list[Path]:
    """One .onnx file with the weights inside; batch, height and width are free."""
    program = _onnx_program(network, names, description)
    program.save(str(path), external_data=False)
    return [path]


def write_torchscript(
    network: FlatNetwork, names: Sequence[str], description: Mapping[str, str], path: Path
) -> list[Path]:
    """A traced module that returns the maps as a tuple; the description is in its extra files."""
    example = _example_of(network)
    with _quiet(), torch.no_grad():
        traced: Any = torch.jit.trace(network, example, check_trace=False)
        texts = dict(description) | {"maps": " ".join(names)}
        torch.jit.save(traced, str(path), _extra_files=texts)
    return [path]


def write_openvino(
    network: FlatNetwork, names: Sequence[str], description: Mapping[str, str], path: Path
) -> list[Path]:
    """An .xml file in float32 with its weights beside it in a .bin file, made from the ONNX graph.

    OpenVINO's convert_model is not used: its telemetry may send data about the use.
    """
    import openvino

    program = _onnx_program(network, names, description)
    content = program.model_proto.SerializeToString()
    model = openvino.Core().read_model(content)
    for name, text in description.items():
        model.set_rt_info(text, [OPENVINO_SECTION, name])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return [path.with_suffix(".bin"), path]


FORMATS = {
    "onnx": ExportFormat(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx),
    "torchscript": ExportFormat(".torchscript", (), write_torchscript),
    "openvino": ExportFormat(".xml", ("onnx", "onnxscript", "openvino"), write_openvino),
}


def require_packages(name: str) -> None:
    """UserError where a package that the format needs is not installed."""
    from importlib.util import find_spec

    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format {name} needs {', '.join(missing)}: pip install {' '.join(missing)}"
        )


def _onnx_program(
    network: FlatNetwork, names: Sequence[str], description: Mapping[str, str]
) -> Any:
    """The torch.onnx.ONNXProgram of a network, with the description as its metadata."""
    height = INPUT_MULTIPLE * Dim("rows", min=1)
    width = INPUT_MULTIPLE * Dim("columns", min=1)
    sizes = {0: Dim("batch", min=1), 2: height, 3: width}

    network.requires_grad_(False)  # a quarter less time
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            (_example_of(network),),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=list(names),
            opset_version=OPSET,
            dynamic_shapes={"images": sizes},
            verbose=False,
        )
    program.model.producer_name = "duopose"
    program.model.metadata_props.update(description)
    return program


def _example_of(network: nn.Module) -> torch.Tensor:
    device = next(network.parameters()).device
    return torch.randn(EXAMPLE_SHAPE, device=device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' messages about packages and interfaces that do not matter here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
