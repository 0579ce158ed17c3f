"""What an exported file says about its network; the entries are listed in `exported_file.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from duopose import __version__
from duopose.config.load import config_text
from duopose.datasets.transforms import IMAGENET_MEAN, IMAGENET_STD
from duopose.decode.build import build_layout
from duopose.decode.calibration import Calibration
from duopose.decode.decoder_settings import DecoderSettings
from duopose.inference.model import Model
from duopose.network.exported_file import FORMAT, FORMAT_KEY
from duopose.network.flat_network import INPUT_NAME
from duopose.network.pose_net import INPUT_MULTIPLE
from duopose.skeletons import skeleton_to_dict


def describe(model: Model, names: Sequence[str], calibration: Calibration | None) -> dict[str, str]:
    """The description of a model as texts; `names` are those of its maps.

    calibration: of the model file, also where TEST.CALIBRATION is off.
    """
    cfg = model.cfg
    sizes = {
        "name": INPUT_NAME,
        "multiple": INPUT_MULTIPLE,
        "short_side": cfg.DATASET.INPUT_SIZE,
    }
    normalisation = {"colours": "RGB", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    values = {
        "keypoints": list(model.names),
        "skeleton": skeleton_to_dict(model.skeleton),
        "normalisation": normalisation,
        "input": sizes,
        "strides": {name: int(name.partition("_")[2]) for name in names},
        "offsets": _offset_edges(model),
        "decoder": _decoder_values(model.predictor.decoder.settings),
        "calibration": None if calibration is None else calibration.to_dict(),
    }

    texts = {FORMAT_KEY: FORMAT, "duopose": __version__, "config": config_text(cfg)}
    return texts | {name: json.dumps(value) for name, value in values.items()}


def _offset_edges(model: Model) -> dict[str, Any]:
    """The channels of the offset maps: two, y and x, for each edge; none for the baseline."""
    layout = build_layout(model.cfg, model.skeleton)
    edges = [[int(a), int(b)] for a, b in zip(layout.source, layout.target, strict=True)]
    return {"unit": model.cfg.MODEL.OFFSET_UNIT, "order": "y, x", "edges": edges}


def _decoder_values(settings: DecoderSettings) -> dict[str, Any]:
    values = asdict(settings)
    del values["calibration"]  # an entry of its own
    return values
