"""Opening exported files by other libraries: ONNX by onnxruntime, OpenVINO's IR by openvino.

No code of a file is executed: no library of custom operators is ever registered. Only regular
files of a limited size are opened. Weights outside an ONNX file are read from its folder alone:
names that are absolute, have `..`, or lead out of it by links are refused before onnxruntime sees
the file. Both libraries use as many threads as torch at the time of opening.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duopose.errors import UserError
from duopose.network.flat_network import INPUT_NAME, ExportedNetwork
from duopose.network.onnx_external import DamagedOnnxFile, external_locations
from duopose.regular_files import (
    FolderReader,
    is_outside_name,
    open_regular,
    read_regular,
    reason_of,
)

# Where the description is in OpenVINO's run-time information, beside the library's own entries.
OPENVINO_SECTION = "duopose"
XML_START = b"<?xml"
MAX_BYTES = 2 << 30  # of a file of weights; protobuf's own limit, and that of torch files
MAX_XML_BYTES = 64 << 20  # HRNet-w48's has 3 MB

# ---- ONNX ----


def read_onnx_description(path: Path) -> dict[str, str]:
    """The metadata in an ONNX file; UserError where onnxruntime cannot open it."""
    session = _onnx_session(path, ["CPUExecutionProvider"], optimise=False)
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}': its metadata is damaged ({error.reason})") from error


def open_onnx(path: Path, device: torch.device) -> ExportedNetwork:
    """The network of an ONNX file on the CPU, or on CUDA where onnxruntime has it."""
    session = _onnx_session(path, _providers(path, device), optimise=True)
    library = f"'{path}' (onnxruntime)"

    try:
        inputs = [(one.name, one.type) for one in session.get_inputs()]
        outputs = [(one.name, one.shape) for one in session.get_outputs()]
    except UnicodeDecodeError as error:
        raise UserError(f"{library}: a name in it is damaged ({error.reason})") from error
    if inputs != [(INPUT_NAME, "tensor(float)")]:
        raise UserError(
            f"{library}: its inputs are {inputs}; a file of tools/export.py has one, "
            f"'{INPUT_NAME}', of float32"
        )
    channels = {}
    for name, shape in outputs:
        has_channels = len(shape) == 4 and isinstance(shape[1], int)
        channels[name] = shape[1] if has_channels else 0

    names = list(channels)
    run: Callable[[np.ndarray], Any] = lambda images: session.run(names, {INPUT_NAME: images})  # noqa: E731
    return ExportedNetwork(run, channels, library)


def _onnx_session(path: Path, providers: list[str], optimise: bool) -> Any:
    """An onnxruntime.InferenceSession. optimise: fuse operators, for running."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"'{path}' needs onnxruntime, which is not installed: pip install onnxruntime"
        ) from error
    _check_onnx_files(path)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: errors are raised
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class
        raise UserError(
            f"'{path}' cannot be opened by onnxruntime {onnxruntime.__version__}; is it a complete "
            f"ONNX file, of a version that this onnxruntime reads? ({_shortened(error)})"
        ) from error


def _check_onnx_files(path: Path) -> None:
    """UserError where the file, or one with its weights, may not be opened."""
    try:
        locations = external_locations(path, MAX_BYTES)
    except OSError as error:
        raise UserError(f"model file '{path}' cannot be read: {reason_of(error)}") from error
    except DamagedOnnxFile as error:
        raise UserError(f"'{path}' is no ONNX file, or damaged: {error}") from error

    folder = FolderReader(path.parent)
    bytes_left = MAX_BYTES
    for name in locations:
        try:
            if is_outside_name(name):
                raise OSError("leads out of the folder of the model")
            with folder.open(name, bytes_left) as file:
                bytes_left -= file.seek(0, 2)
        except OSError as error:
            raise UserError(
                f"'{path}' has weights in the file '{name[:200]}', which cannot be used: "
                f"{reason_of(error)}"
            ) from error


def _providers(path: Path, device: torch.device) -> list[str]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]

    import onnxruntime

    if (
        device.type != "cuda"
        or "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    ):
        raise UserError(
            f"'{path}': this onnxruntime cannot run on {device}; use the device cpu, or install "
            "onnxruntime-gpu for CUDA"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


# ---- OpenVINO ----


def read_openvino_description(path: Path) -> dict[str, str]:
    """Our entries in the run-time information of an IR file (.xml with .bin beside it)."""
    model = _openvino_model(path)
    if not model.has_rt_info([OPENVINO_SECTION]):
        return {}
    entries: dict[str, Any] = model.get_rt_info([OPENVINO_SECTION]).astype(dict)
    return {name: _text_of(value) for name, value in entries.items()}


def open_openvino(path: Path, device: torch.device) -> ExportedNetwork:
    """The network of an IR file, on the CPU in float32."""
    if device.type != "cpu":
        raise UserError(f"'{path}': OpenVINO files run on the device cpu, not on {device}")
    model = _openvino_model(path)

    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would take bf16
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        channels = {output.get_any_name(): _num_channels(output) for output in compiled.outputs}
    except Exception as error:  # openvino's errors have no common class
        raise _openvino_error(path, error) from error

    def run(images: np.ndarray) -> list[np.ndarray]:
        found = compiled({INPUT_NAME: images})
        return [np.array(found[name]) for name in channels]

    return ExportedNetwork(run, channels, f"'{path}' (openvino)")


def _openvino_model(path: Path) -> Any:
    """An openvino.Model."""
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            f"'{path}' needs openvino, which is not installed: pip install openvino"
        ) from error

    weights = path.with_suffix(".bin")
    try:
        text = read_regular(path, MAX_XML_BYTES)
    except OSError as error:
        raise UserError(f"model file '{path}' cannot be read: {reason_of(error)}") from error
    if not text.startswith(XML_START):  # openvino would try its other readers
        raise UserError(f"'{path}' is no xml file; OpenVINO files are written by tools/export.py")
    try:
        open_regular(weights, MAX_BYTES).close()
    except OSError as error:
        raise UserError(
            f"'{path}' needs its weights '{weights}', which cannot be read: {reason_of(error)}"
        ) from error

    try:
        return openvino.Core().read_model(str(path), str(weights))
    except Exception as error:
        raise _openvino_error(path, error) from error


def _num_channels(output: Any) -> int:
    """Of an output of an OpenVINO model; 0 where it has none, or their number is open."""
    shape = output.get_partial_shape()
    is_map = len(shape) == 4 and not shape[1].is_dynamic
    return int(shape[1].get_length()) if is_map else 0


def _openvino_error(path: Path, error: Exception) -> UserError:
    import openvino

    version = openvino.__version__
    return UserError(f"'{path}' cannot be opened by openvino {version} ({_shortened(error)})")


def _text_of(value: Any) -> str:
    return str(value.value if hasattr(value, "value") else value)


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]} ..."
