"""Published model files: smaller, without paths, with the same maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duopose.config import config_text, load_config
from duopose.errors import UserError
from duopose.inference.model import read_model_settings
from duopose.inference.publish import half_precision, publish_model
from duopose.network import build_network, load_weights, read_model_file, save_model
from duopose.skeletons import COCO, skeleton_to_dict

TINY = ["MODEL.WIDTH", 8, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    cfg = load_config(None, [*TINY, "OUTPUT_DIR", "/home/me/runs", "TEST.PCK", 0.2])
    torch.manual_seed(0)
    path = tmp_path / "model.pth"
    state = build_network(cfg, COCO).state_dict()
    extra = {"epoch": 3}
    save_model(path, state, config_text(cfg), skeleton_to_dict(COCO), extra)
    return path


def test_half_the_size_and_nearly_the_same_maps(model_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.pth"
    size = publish_model(model_file, target)
    assert size < 0.65 * model_file.stat().st_size

    images = torch.rand(1, 3, 64, 64)
    heatmaps = []
    for path in (model_file, target):
        cfg, skeleton = read_model_settings(path)
        network = build_network(cfg, skeleton).eval()
        load_weights(network, path)
        assert next(network.parameters()).dtype == torch.float32
        heatmaps.append(network(images).heatmaps[1].detach())
    scale = float(heatmaps[0].abs().max())
    assert float((heatmaps[0] - heatmaps[1]).abs().max()) < 0.01 * scale


def test_settings_stay_and_paths_do_not(model_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.pth"
    publish_model(model_file, target)
    file = read_model_file(target)
    assert "/home/me" not in file.config
    assert read_model_settings(target).cfg.TEST.PCK == 0.2
    assert file.extra == {"epoch": 3}
    statistics = file.state_dict["backbone.bn1.running_var"]
    assert statistics.dtype == torch.float32


def test_nothing_is_overwritten_and_nothing_overflows(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists"):
        publish_model(model_file, model_file)
    with pytest.raises(UserError, match="layer"):
        half_precision({"layer": torch.tensor([1e6])}, tmp_path)
