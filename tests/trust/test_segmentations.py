"""Polygons and run lengths are checked before pycocotools, whose C code trusts them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from tests.trust.readers import coco_content, use_for_checking, use_for_training

from duopose.datasets.ignore_mask import decode_mask, encode_regions, pack_ignored_regions
from duopose.datasets.segmentations import SegmentationError, unpack_counts
from duopose.errors import UserError

SIZE = [60, 80]  # height, width

BROKEN: dict[str, Any] = {
    "word": "all",
    "number": 5,
    "true": True,
    "list of numbers": [1, 2, 3],
    "list of words": ["a", "b"],
    "mixed": [[1, 2, 3, 4, 5, 6], {"size": SIZE}],
    "words in a polygon": [["1", "2", "3", "4", "5", "6"]],
    "nested polygon": [[[1, 2], [3, 4], [5, 6]]],
    "null in a polygon": [[1, 2, None, 4, 5, 6]],
    "odd number of coordinates": [[1, 2, 3, 4, 5, 6, 7]],
    "far coordinate": [[0, 0, 1e8, 0, 5, 5]],
    "3e7": [[0, 0, 3e7, 0, 5, 5]],
    "long border": [[0, 0, 9e4, 9e4] * 100],
    "empty mapping": {"a": 1},
    "no counts": {"size": SIZE},
    "no size": {"counts": [4800]},
    "size swapped": {"size": [80, 60], "counts": [4800]},
    "size of another image": {"size": [60000, 60000], "counts": [3_600_000_000]},
    "size 2^31": {"size": [2**31, 2**31], "counts": [0]},
    "size 2^64": {"size": [2**64, 1], "counts": [0]},
    "size negative": {"size": [-60, -80], "counts": [4800]},
    "size with fractions": {"size": [60.5, 80], "counts": [4800]},
    "size of words": {"size": ["60", "80"], "counts": [4800]},
    "size of three": {"size": [60, 80, 3], "counts": [4800]},
    "size no list": {"size": 4800, "counts": [4800]},
    "counts negative": {"size": SIZE, "counts": [-1, 4801]},
    "counts with fractions": {"size": SIZE, "counts": [0.5, 4799.5]},
    "counts of words": {"size": SIZE, "counts": ["4800"]},
    "counts nested": {"size": SIZE, "counts": [[4800]]},
    "counts null": {"size": SIZE, "counts": None},
    "counts too short": {"size": SIZE, "counts": [5, 5]},
    "counts too long": {"size": SIZE, "counts": [4800, 1]},
    "counts wrap round": {"size": SIZE, "counts": [2**32 + 4800]},
    "counts empty": {"size": SIZE, "counts": []},
    "packed empty": {"size": SIZE, "counts": ""},
    "packed nonsense": {"size": SIZE, "counts": "!!nonsense"},
    "packed not ascii": {"size": SIZE, "counts": "é" * 20},
    "packed cut": {"size": SIZE, "counts": "Qo"},
    "packed too short": {"size": SIZE, "counts": "04"},
    "packed endless number": {"size": SIZE, "counts": "o" * 50},
    "packed negative": {"size": SIZE, "counts": "N5"},
    "packed zero byte": {"size": SIZE, "counts": "\0"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_segmentation_names_annotation_and_image(tmp_path: Path, name: str) -> None:
    content = coco_content()
    content["annotations"][2]["segmentation"] = BROKEN[name]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    start = time.process_time()
    with pytest.raises(UserError, match=r"'segmentation' of annotation 3 \(image 10\)"):
        use_for_training(path)
    assert any("'segmentation'" in line and "3" in line for line in use_for_checking(path))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", [[], None, [[]], [[1, 2, 3, 4]], [[1, 2]]])
def test_what_has_no_area_ignores_nothing(value: Any) -> None:
    packed = pack_ignored_regions([value], [], [])
    assert decode_mask(encode_regions(packed, 80, 60), 80, 60).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_unpacked_counts_are_those_of_pycocotools(height: int, width: int, random: Any) -> None:
    mask = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = unpack_counts(code["counts"].decode())
    changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)))
    ends = [*changes.tolist(), height * width] if not mask.T.ravel()[-1] else changes.tolist()
    assert counts == np.diff([0, *ends]).tolist()

    packed = pack_ignored_regions([{"size": [height, width], "counts": counts}], [], [])
    assert (decode_mask(encode_regions(packed, width, height), width, height) == ~mask).all()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_packed_text_is_decoded_or_refused(text: str) -> None:
    try:
        counts = unpack_counts(text)
    except SegmentationError:
        return
    assert all(count >= 0 for count in counts)
