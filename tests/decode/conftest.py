"""Generated people and their ideal maps for the decoder's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from duopose.config import load_config, offset_strides
from duopose.decode import build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.decode.build import decoder_settings as settings_from_config
from duopose.decode.decoder_settings import DecoderSettings
from duopose.geometry import resize_for_test
from duopose.oracle.ideal_maps import IdealNetwork, ideal_passes
from duopose.oracle.simulated_people import ideal_people
from duopose.skeletons import get_skeleton
from duopose.types import PoseMaps, Poses


class IdealDecoding:
    """Encodes keypoints (P, K, 3) of the image frame as ideal maps and decodes them."""

    def __init__(
        self, skeleton: str = "coco", overrides: Sequence[Any] = (), input_size: int = 256
    ) -> None:
        self.skeleton = get_skeleton(skeleton)
        self.cfg = load_config(None, ["DATASET.DATASET", skeleton, *overrides])
        self.layout = build_layout(self.cfg, self.skeleton)
        self.decoder = build_decoder(self.cfg, self.skeleton)
        self.input_size = input_size

    def maps(
        self,
        keypoints: np.ndarray,
        size: tuple[int, int],
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
    ) -> PoseMaps:
        """Ideal maps of an image of `size` (width, height), merged."""
        self.merged = resize_for_test(*size, self.input_size, 1.0, min(1.0, *scales))
        frames = [
            resize_for_test(*size, self.input_size, scale, min(1.0, *scales)) for scale in scales
        ]
        area = np.ones(len(keypoints))
        people = ideal_people(self.merged.affine.apply(keypoints), area, self.layout)
        offsets = self.layout.num_edges > 0
        network = IdealNetwork(
            self.layout,
            offset_unit=self.cfg.MODEL.OFFSET_UNIT,
            with_centre=offsets,
            offset_strides=offset_strides(self.cfg),
        )
        passes = ideal_passes(people, self.merged, frames, network, self.skeleton, flip)
        return build_merger(self.cfg, self.skeleton)(passes, self.merged)

    def encode_and_decode(
        self,
        keypoints: np.ndarray,
        size: tuple[int, int],
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
    ) -> Poses:
        """The people found in the ideal maps, in the merged input frame."""
        return self.decoder.decode(self.maps(keypoints, size, scales, flip))

    def people(
        self, count: int, size: tuple[int, int], seed: int = 0, height: float = 60.0
    ) -> np.ndarray:
        """(count, K, 3) people of random shape on a grid that keeps them apart, image frame."""
        generator = np.random.default_rng(seed)
        columns = int(np.ceil(np.sqrt(count * size[0] / size[1])))
        rows = int(np.ceil(count / columns))
        cell = np.array([size[0] / columns, size[1] / rows])
        spots = [(column, row) for row in range(rows) for column in range(columns)][:count]
        middles = (np.array(spots) + 0.5) * cell
        spread = np.minimum(cell * 0.4, height / 2)
        shape = generator.uniform(-1, 1, (count, self.skeleton.num_keypoints, 2)) * spread
        seen = np.full((*shape.shape[:2], 1), 2.0)
        return np.concatenate([middles[:, None] + shape, seen], axis=2)


@pytest.fixture
def ideal_decoding() -> Callable[..., IdealDecoding]:
    return IdealDecoding


@pytest.fixture
def decoder_settings() -> Callable[..., DecoderSettings]:
    """decoder_settings(field=value, ...): the default settings with some fields changed."""
    default = settings_from_config(load_config(None, []))
    return lambda **fields: replace(default, **fields)
