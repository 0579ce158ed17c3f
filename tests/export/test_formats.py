"""Exported networks give PyTorch's maps and people, and carry what a user of the file needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import duopose
from duopose.datasets.transforms import IMAGENET_MEAN, IMAGENET_STD
from duopose.decode.decoder_settings import CALIBRATED_FIELDS
from duopose.errors import UserError
from duopose.export.compare import (
    PeopleDifference,
    checked_shapes,
    people_difference,
    relative_difference,
)
from duopose.export.export_model import export_model
from duopose.files import sha256_of_file
from duopose.inference import model as model_module
from duopose.inference.evaluation_inputs import EvaluationInputs
from duopose.inference.protocol import protocol
from duopose.network.exported_file import READERS
from duopose.network.flat_network import flatten_output, map_names, output_of_maps
from duopose.skeletons import COCO
from duopose.types import NetworkOutput
from tools import export as tool

PROJECT = Path(__file__).resolve().parents[2]
ALL_MAPS = ["heatmaps_4", "heatmaps_2", "tags_4", "offsets_4", "offsets_2"]


# ---- names of the maps ----


@pytest.mark.parametrize("offset_strides", [(), (4,), (4, 2)])
def test_maps_by_name_and_back(offset_strides: tuple[int, ...]) -> None:
    maps = {stride: torch.full((1, 3, 64 // stride, 96 // stride), stride) for stride in (4, 2)}
    offsets = tuple(maps[stride] * 10 for stride in offset_strides)
    output = NetworkOutput((maps[4], maps[2]), maps[4] * 5, offsets)

    names = map_names(output, input_height=64)
    assert names == ALL_MAPS[: 3 + len(offset_strides)]
    back = output_of_maps(names, flatten_output(output))
    assert len(back.offsets) == len(offset_strides)
    for one, other in zip(flatten_output(back), flatten_output(output), strict=True):
        assert one is other


def test_checked_shapes_are_three_sizes_with_two_batches() -> None:
    shapes = checked_shapes(512)
    assert shapes == [
        (batch, *size) for size in ((256, 256), (512, 512), (512, 768)) for batch in (1, 2)
    ]
    assert min(checked_shapes(32)) == (1, 32, 32)


def test_differences_are_relative_to_the_largest_value() -> None:
    expected = torch.tensor([0.0, -200.0])
    assert relative_difference(expected, torch.tensor([1.0, -200.0])) == pytest.approx(0.005)
    assert relative_difference(expected, torch.tensor([float("nan"), 0.0])) == float("inf")


# ---- ONNX ----


def test_onnx_gives_the_maps_and_people_of_pytorch(onnx_export: Any) -> None:
    result = onnx_export.result
    assert len({one.shape for one in result.maps}) == 6
    assert max(one.value for one in result.maps) <= 1e-5
    assert result.people.num_images == 8 and result.people.num_people > 8
    assert result.people.num_different == 0
    assert result.people.max_distance < 1e-2
    assert result.speed is not None and result.speed.torch_ms > 0 and result.speed.exported_ms > 0
    assert [path.name for path in onnx_export.path.parent.iterdir() if path.is_dir()] == []


def test_load_gives_the_same_object_without_network_code(
    onnx_export: Any, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = duopose.load(onnx_export.source, "cpu", ("TEST.MAX_PEOPLE", 7))
    monkeypatch.setattr(model_module, "build_network", lambda *_: pytest.fail("network code"))
    model = duopose.load(onnx_export.path)
    assert isinstance(model, duopose.Model) and model.device.type == "cpu"
    assert model.names == COCO.keypoints and "tiny.onnx" in repr(model)
    assert model.cfg.TEST.MAX_PEOPLE == 7

    people = model(images, batch_size=2)
    assert len(people) == 3 and all(1 <= len(one) <= 7 for one in people)
    assert people[0].sigma is not None and people[0].sigma.max() > 0
    for one, image in zip(people, images, strict=True):
        expected = reference(image)
        assert np.array_equal(one.filled, expected.filled)
        assert np.allclose(one.keypoints, expected.keypoints, rtol=0, atol=1e-3)


def test_an_evaluation_of_the_file_states_its_protocol(onnx_export: Any) -> None:
    inputs = EvaluationInputs.from_model_file(onnx_export.path, ("TEST.MAX_PEOPLE", "3"))
    assert inputs.cfg.TEST.MAX_PEOPLE == 3 and inputs.weights == onnx_export.path
    network = duopose.load(onnx_export.path).predictor.network
    record = protocol(inputs.cfg, str(onnx_export.path), 1, COCO, network)
    of_source = protocol(inputs.cfg, str(onnx_export.source))
    assert record["weights_sha256"] == sha256_of_file(onnx_export.path)
    assert record["calibration"] == of_source["calibration"] != "none"


def test_settings_over_those_of_the_file(onnx_export: Any, images: list[np.ndarray]) -> None:
    settings = ("TEST.FLIP_TEST", False, "TEST.MAX_PEOPLE", 2, "TEST.CALIBRATION", "off")
    model = duopose.load(onnx_export.path, settings=settings)
    assert model.predictor.flip_test is False
    people = model(images[0])
    assert len(people) <= 2 and people.sigma is None


def test_any_size_that_is_a_multiple_of_32(onnx_export: Any) -> None:
    reference = duopose.load(onnx_export.source, "cpu").predictor.network
    network = duopose.load(onnx_export.path).predictor.network
    with torch.inference_mode():
        for shape in ((3, 3, 32, 32), (1, 3, 96, 224)):
            batch = torch.randn(shape)
            for one, other in zip(
                flatten_output(reference(batch)), flatten_output(network(batch)), strict=True
            ):
                assert relative_difference(one, other) < 1e-5
        with pytest.raises(ValueError, match="50"):
            network(torch.zeros(1, 3, 50, 64))


def test_description_in_the_file(onnx_export: Any) -> None:
    texts = READERS[".onnx"].read_description(onnx_export.path)
    values = {
        name: json.loads(text) for name, text in texts.items() if name not in ("config", "duopose")
    }
    assert values["keypoints"] == list(COCO.keypoints)
    assert values["skeleton"]["parents"] == dict(COCO.parents)
    assert values["normalisation"]["mean"] == pytest.approx(IMAGENET_MEAN)
    assert values["normalisation"]["std"] == pytest.approx(IMAGENET_STD)
    assert values["input"] == {"name": "images", "multiple": 32, "short_side": 64}
    assert values["strides"] == dict(zip(ALL_MAPS, (4, 2, 4, 4, 2), strict=True))
    assert len(values["offsets"]["edges"]) * 2 == COCO.offset_layout(False).num_channels
    # the decoder's values are those that it uses: calibrated ones where there is a calibration
    assert values["decoder"]["max_people"] == 7 and "subpixel" in values["decoder"]
    for name in CALIBRATED_FIELDS:
        assert values["decoder"][name] == pytest.approx(values["calibration"][name])
    assert texts["duopose"] == duopose.__version__ and "INPUT_SIZE: 64" in texts["config"]


def test_the_example_of_the_page_runs_without_torch(onnx_export: Any, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "deploy.md").read_text()
    (example,) = re.findall(r"```python\n(import json.*?)```", page, flags=re.DOTALL)
    (tmp_path / "model.onnx").write_bytes(onnx_export.path.read_bytes())
    image = np.random.default_rng(0).integers(0, 256, (101, 67, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "street.jpg"), image)

    without = "import sys\nsys.modules['torch'] = None\nsys.modules['duopose'] = None\n"
    command = [sys.executable, "-c", without + example]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    name, x, y, _score = done.stdout.split()
    assert name == "nose" and 0 <= float(x) <= 96 and 0 <= float(y) <= 128


# ---- TorchScript and OpenVINO ----


@pytest.mark.parametrize(
    ("settings", "line", "names"),
    [
        (("MODEL.FINE_OFFSETS", False), "FINE_OFFSETS: false", ALL_MAPS[:4]),
        (("MODEL.NAME", "pose_higher_hrnet"), "NAME: pose_higher_hrnet\n", ALL_MAPS[:3]),
    ],
)
def test_torchscript(
    settings: tuple[Any, ...],
    line: str,
    names: list[str],
    write_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = write_model(tmp_path / "tiny.pth", *settings)
    result = export_model(source, "torchscript", repeats=0)
    assert max(one.value for one in result.maps) <= 1e-5
    assert result.people.num_different == 0 and result.people.num_people > 0
    assert result.speed is None and result.files == (tmp_path / "tiny.torchscript",)

    texts = {"maps": "", "keypoints": "", "config": ""}
    module = torch.jit.load(str(result.files[0]), _extra_files=texts)
    read = {name: text if isinstance(text, str) else text.decode() for name, text in texts.items()}
    assert read["maps"].split() == names
    assert json.loads(read["keypoints"]) == list(COCO.keypoints)
    assert line in read["config"]
    assert len(module(torch.zeros(1, 3, 96, 32))) == len(names)


def test_openvino(
    onnx_export: Any, images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")

    # The ONNX graph of the fixture, instead of a second export that takes seconds.
    def program(*_arguments: object) -> Any:
        return type("Program", (), {"model_proto": onnx.load(onnx_export.path)})

    monkeypatch.setattr("duopose.export.export_formats._onnx_program", program)
    monkeypatch.setattr(openvino, "convert_model", lambda *_: pytest.fail("it has telemetry"))
    settings = ("TEST.MAX_PEOPLE", 7)
    target = tmp_path / "tiny.xml"
    result = export_model(onnx_export.source, "openvino", target, settings, repeats=0)
    assert [file.name for file in result.files] == ["tiny.bin", "tiny.xml"]
    assert max(one.value for one in result.maps) <= 1e-5 and result.people.num_different == 0

    texts = READERS[".xml"].read_description(target)
    assert texts == READERS[".onnx"].read_description(onnx_export.path)
    difference = people_difference(duopose.load(onnx_export.path), duopose.load(target), images)
    assert difference.num_different == 0 and difference.max_distance < 1e-2


# ---- the comparison and the command ----


def test_people_that_differ_are_counted(onnx_export: Any, images: list[np.ndarray]) -> None:
    model = duopose.load(onnx_export.path)
    fewer = duopose.load(onnx_export.path, settings=("TEST.MAX_PEOPLE", 1))
    assert people_difference(model, fewer, images).num_different == 3

    people = model(images[0])
    moved = duopose.People(people.keypoints + 0.5, people.scores, people.filled, people.skeleton)
    difference = PeopleDifference()
    difference.add(people, people)
    assert (difference.num_different, difference.max_distance) == (0, 0.0)
    found = (people.keypoints[..., 2] > 0).all()
    difference.add(people, moved)
    assert difference.num_different == int(not found) or difference.max_distance == 0.5


def test_a_network_that_differs_is_not_written(
    write_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(nn.Module):
        def forward(self, images: torch.Tensor) -> NetworkOutput:
            maps = torch.zeros(len(images), 18, images.shape[2] // 4, images.shape[3] // 4)
            return NetworkOutput((maps, maps), maps, (maps, maps))

    source = write_model(tmp_path / "tiny.pth")
    monkeypatch.setattr("duopose.export.export_model.TorchScriptNetwork", lambda _path: Wrong())
    monkeypatch.setattr("duopose.export.compare.relative_difference", lambda *_: 2e-4)
    with pytest.raises(UserError, match=r"0\.0002"):
        export_model(source, "torchscript", repeats=0)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pth"]


def test_the_command(
    write_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_model(tmp_path / "tiny.pth")
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)

    words = ["--model", str(source), "--format", "torchscript", "--images", str(folder)]
    out = tmp_path / "new" / "small.torchscript"
    options = ["--limit", "2", "--repeats", "1", "--out", str(out), "TEST.MAX_PEOPLE", "3"]
    assert tool.main(words + options) == 0
    printed = capsys.readouterr().out
    assert out.is_file() and str(out) in printed and " 2 of 2 " in printed
    assert len(re.findall(r"^  [12] x \d+x\d+ ", printed, flags=re.MULTILINE)) == 6

    (folder / "0.png").write_text("no image")
    for wrong in (
        [*words],
        ["--model", str(out)],
        ["--model", str(tmp_path / "absent.pth"), "--format", "torchscript"],
        ["--model", str(source), "--out", str(tmp_path / "model.pt")],
        ["--model", str(source), "--format", "torchscript", "--images", str(tmp_path / "no")],
        ["--model", str(source), "--format", "torchscript", "--images", str(tmp_path / "new")],
        ["--model", str(source), "--limit", "0"],
    ):
        assert tool.main(wrong) == 2, wrong
        assert len(capsys.readouterr().err.splitlines()) >= 1
    assert not (tmp_path / "tiny.torchscript").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torchscript"])
@pytest.mark.parametrize("method", ["pose_higher_hrnet_de", "pose_higher_hrnet"])
def test_w32(name: str, method: str, write_model: Callable[..., Path], tmp_path: Path) -> None:
    full_size = (
        "MODEL.WIDTH", 32, "MODEL.MODULES", [1, 4, 3], "MODEL.BLOCKS", 4,
        "MODEL.STEM_CHANNELS", 64, "MODEL.DECONV_BLOCKS", 4, "DATASET.INPUT_SIZE", 128,
    )  # fmt: skip
    source = write_model(tmp_path / "w32.pth", *full_size, "MODEL.NAME", method)
    result = export_model(source, name, repeats=5)
    assert max(one.value for one in result.maps) <= 1e-4
    assert result.people.num_different == 0
    assert result.speed is not None  # the ratio is in docs/deploy.md: no test depends on time
