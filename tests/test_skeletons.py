"""Skeletons check themselves, and everything derived from them is consistent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from duopose.errors import UserError
from duopose.skeletons import (
    COCO,
    CROWDPOSE,
    MPII,
    SKELETONS,
    Skeleton,
    get_skeleton,
    skeleton_from_dict,
    skeleton_to_dict,
)

ALL = [COCO, CROWDPOSE, MPII]


@pytest.mark.parametrize(
    ("skeleton", "channels", "reverse"), [(COCO, 42, 58), (CROWDPOSE, 36, 52), (MPII, 36, 52)]
)
def test_offset_channels(skeleton: Skeleton, channels: int, reverse: int) -> None:
    assert skeleton.offset_layout().num_channels == channels
    assert skeleton.offset_layout(reverse=True).num_channels == reverse


@pytest.mark.parametrize("skeleton", ALL)
@pytest.mark.parametrize("reverse", [False, True])
def test_flips_are_involutions_that_keep_the_meaning(skeleton: Skeleton, reverse: bool) -> None:
    layout, flip = skeleton.offset_layout(reverse), skeleton.flip_index_with_centre
    assert (flip[flip] == np.arange(skeleton.num_keypoints + 1)).all()
    assert (layout.flip_channels[layout.flip_channels] == np.arange(layout.num_channels)).all()
    assert (flip[layout.source] == layout.source[layout.flip_edge]).all()
    assert (flip[layout.target] == layout.target[layout.flip_edge]).all()
    assert (layout.flip_signs[0::2] == 1).all() and (layout.flip_signs[1::2] == -1).all()


@pytest.mark.parametrize("skeleton", ALL)
def test_parents_come_first(skeleton: Skeleton) -> None:
    seen = set(skeleton.torso_indices)
    for joint in skeleton.parents_first:
        assert skeleton.parent_index[joint] in seen
        seen.add(joint)
    assert seen | set(skeleton.centre_only_indices) == set(range(skeleton.num_keypoints))


def test_forward_layout_is_a_prefix_of_the_reverse_one() -> None:
    plain, both = COCO.offset_layout(), COCO.offset_layout(reverse=True)
    assert (
        both.source[: plain.num_edges] == plain.source
    ).all() and both.num_forward == plain.num_edges
    shoulder, elbow = COCO.index("left_shoulder"), COCO.index("left_elbow")
    assert both.edge(shoulder, elbow) >= plain.num_edges
    with pytest.raises(ValueError, match=f"{shoulder} to {elbow}"):
        plain.edge(shoulder, elbow)


@pytest.mark.parametrize("skeleton", ALL)
def test_round_trip_through_a_yaml(skeleton: Skeleton, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(skeleton_to_dict(skeleton)))
    assert get_skeleton(str(path)) == skeleton
    assert get_skeleton(skeleton.name) is SKELETONS[skeleton.name]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (
            {"torso": ("left_shoulder", "right_shoulder", "left_hip")},
            "right_hip.* 0 ",
        ),
        ({"centre_only": (*COCO.centre_only, "left_hip")}, "left_hip.* 2 "),
        ({"centre_only": (*COCO.centre_only, "tail")}, "centre_only: 'tail'"),
        ({"sigmas": COCO.sigmas[:-1]}, "sigmas: .* 17 "),
        ({"sigmas": (0.0, *COCO.sigmas[1:])}, "sigmas: .* 17 "),
        ({"flip_pairs": (*COCO.flip_pairs, ("left_eye", "nose"))}, "flip_pairs: 'left_eye' .* 2 "),
        ({"flip_pairs": COCO.flip_pairs[:3]}, "flip_pairs: .*'left_shoulder'"),
        ({"parents": {**COCO.parents, "left_elbow": "left_wrist"}}, "left_wrist"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UserError, match=fragment):
        replace(COCO, **change)


def test_sigmas_may_be_left_out_and_are_then_default() -> None:
    content = skeleton_to_dict(COCO) | {"sigmas": []}
    skeleton = skeleton_from_dict(content, "mine")
    assert skeleton.sigmas_are_default and len(skeleton.sigmas) == 17


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"name": "x"},
        {**skeleton_to_dict(COCO), "color": 1},
        {**skeleton_to_dict(COCO), "parents": 5},
    ],
)
def test_unusable_content_is_refused(content: object) -> None:
    with pytest.raises(UserError, match="mine"):
        skeleton_from_dict(content, "mine")


@pytest.mark.parametrize(
    ("name", "fragment"), [("horse", "coco, crowdpose, mpii"), ("horse.yaml", "horse.yaml")]
)
def test_unknown_names_list_the_valid_ones(name: str, fragment: str) -> None:
    with pytest.raises(UserError, match=fragment):
        get_skeleton(name)


def test_without_limbs_the_whole_figure_is_connected() -> None:
    """The torso and the head are joined, too, not only the limbs to their parents."""
    bare = replace(COCO, limbs=())
    assert {("left_shoulder", "left_hip"), ("left_hip", "right_hip")} <= set(bare.limbs)
    assert {("nose", "left_eye"), ("left_eye", "left_ear"), ("nose", "left_shoulder")} <= set(
        bare.limbs
    )
    assert ("left_ear", "right_ear") not in bare.limbs

    lsp = get_skeleton("docs/examples/lsp_skeleton.yaml")
    assert ("head_top", "neck") in lsp.limbs, "the end of the torso with the neck, not the hips"
    for skeleton in (bare, lsp):
        reached = {skeleton.keypoints[0]}
        for _ in skeleton.keypoints:
            reached |= {name for pair in skeleton.limbs if reached & set(pair) for name in pair}
        assert reached == set(skeleton.keypoints)
