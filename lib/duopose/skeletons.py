"""Which keypoints a person has, how they hang together, and what follows from that.

A `Skeleton` is the one place where joint order, left-right pairs, grouping roles and OKS sigmas are written.
Heatmap channels, tag targets, offset channels, flips, decoding, evaluation and drawing are all derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from duopose.errors import UserError

FIELDS = ("name", "keypoints", "flip_pairs", "torso", "parents", "centre_only", "sigmas", "limbs")
DEFAULT_SIGMA = 0.05  # used, and said so, where a user's skeleton gives no sigmas


@dataclass(frozen=True)
class Skeleton:
    """Keypoints of a person and their roles; names everywhere, indices derived.

    Every keypoint is in exactly one group: `torso` (tied to the person by tags), `parents` (limb -> parent nearer
    the torso, tied by offsets) or `centre_only` (tied by the offset to the person's centre).
    `limbs` are the pairs to draw. Raises UserError with one sentence per problem.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    torso: tuple[str, ...]
    parents: Mapping[str, str]
    centre_only: tuple[str, ...]
    sigmas: tuple[float, ...] = ()
    limbs: tuple[tuple[str, str], ...] = ()
    sigmas_are_default: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * len(self.keypoints))
            object.__setattr__(self, "sigmas_are_default", True)
        if not self.limbs:
            object.__setattr__(self, "limbs", tuple(self.parents.items()))
        problems = [
            *self._unknown_names(),
            *self._group_problems(),
            *self._flip_problems(),
            *self._parent_problems(),
        ]
        if len(self.sigmas) != len(self.keypoints) or any(not sigma > 0 for sigma in self.sigmas):
            problems.append(
                f"sigmas: need {len(self.keypoints)} positive numbers, one a keypoint, got {list(self.sigmas)}"
            )
        if problems:
            raise UserError(f"skeleton '{self.name}' is not usable:\n  " + "\n  ".join(problems))

    # ---- checks ----

    def _unknown_names(self) -> list[str]:
        used = {
            "flip_pairs": [name for pair in self.flip_pairs for name in pair],
            "torso": list(self.torso),
            "parents": [*self.parents.keys(), *self.parents.values()],
            "centre_only": list(self.centre_only),
            "limbs": [name for pair in self.limbs for name in pair],
        }
        problems = [
            f"{where}: '{name}' is not in keypoints {list(self.keypoints)}"
            for where, names in used.items()
            for name in names
            if name not in self.keypoints
        ]
        if len(set(self.keypoints)) != len(self.keypoints) or not self.keypoints:
            problems.append(
                f"keypoints: need at least one name and none twice, got {list(self.keypoints)}"
            )
        return problems

    def _group_problems(self) -> list[str]:
        groups = (*self.torso, *self.parents, *self.centre_only)
        return [
            f"'{name}' is in {groups.count(name)} of the groups torso, parents, centre_only; it must be in exactly one"
            for name in self.keypoints
            if groups.count(name) != 1
        ]

    def _flip_problems(self) -> list[str]:
        paired = [name for pair in self.flip_pairs for name in pair]
        problems = [
            f"flip_pairs: '{name}' is paired {paired.count(name)} times"
            for name in sorted(set(paired))
            if paired.count(name) > 1
        ]
        if problems:
            return problems
        mirror = self.mirror
        for name, parent in self.parents.items():
            if self.parents.get(mirror[name]) != mirror.get(parent, parent):
                problems.append(
                    f"flip_pairs: the parent of '{mirror[name]}' must be '{mirror.get(parent, parent)}', the mirror of '{name}'s parent"
                )
        for group, names in (("torso", self.torso), ("centre_only", self.centre_only)):
            problems += [
                f"flip_pairs: '{n}' is in {group}, its mirror '{mirror[n]}' is not"
                for n in names
                if n in mirror and mirror[n] not in names
            ]
        return problems

    def _parent_problems(self) -> list[str]:
        problems = []
        for start in self.parents:
            seen, name = {start}, self.parents[start]
            while name in self.parents and name not in seen:
                seen.add(name)
                name = self.parents[name]
            if name in seen:
                problems.append(
                    f"parents: following them from '{start}' comes round to '{name}' and never ends"
                )
        return problems

    # ---- derived facts ----

    @property
    def num_keypoints(self) -> int:
        """K, the centre not counted."""
        return len(self.keypoints)

    @property
    def centre(self) -> int:
        """Index of the centre channel, K."""
        return len(self.keypoints)

    @cached_property
    def mirror(self) -> dict[str, str]:
        """Keypoint name -> name of the keypoint it becomes in a mirrored image."""
        mirror = {name: name for name in self.keypoints}
        for left, right in self.flip_pairs:
            mirror[left], mirror[right] = right, left
        return mirror

    @cached_property
    def flip_index(self) -> np.ndarray:
        """(K,) int: keypoint k of a mirrored image is keypoint flip_index[k] of the image."""
        return np.array([self.index(self.mirror[name]) for name in self.keypoints])

    @cached_property
    def flip_index_with_centre(self) -> np.ndarray:
        """(K+1,) int: `flip_index` for maps that have the centre as last channel."""
        return np.append(self.flip_index, self.centre)

    def index(self, name: str) -> int:
        """Index of a keypoint's name; ValueError naming the valid ones."""
        if name not in self.keypoints:
            raise ValueError(
                f"'{name}' is no keypoint of skeleton '{self.name}'; it has {', '.join(self.keypoints)}"
            )
        return self.keypoints.index(name)

    @cached_property
    def torso_indices(self) -> tuple[int, ...]:
        """Indices of the torso joints, in keypoint order."""
        return tuple(sorted(self.index(name) for name in self.torso))

    @cached_property
    def centre_only_indices(self) -> tuple[int, ...]:
        """Indices of the joints tied to the centre alone, in keypoint order."""
        return tuple(sorted(self.index(name) for name in self.centre_only))

    @cached_property
    def parent_index(self) -> dict[int, int]:
        """Limb joint -> parent, as indices, in keypoint order."""
        pairs = ((self.index(child), self.index(parent)) for child, parent in self.parents.items())
        return dict(sorted(pairs))

    @cached_property
    def limb_indices(self) -> tuple[int, ...]:
        """Indices of the limb joints, in keypoint order."""
        return tuple(self.parent_index)

    @cached_property
    def parents_first(self) -> tuple[int, ...]:
        """The limb joints ordered so that a parent that is itself a limb joint comes before its children."""

        def depth(joint: int) -> int:
            return 1 + depth(self.parent_index[joint]) if joint in self.parent_index else 0

        return tuple(sorted(self.limb_indices, key=lambda joint: (depth(joint), joint)))

    @cached_property
    def limb_index_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs to draw, as indices."""
        return tuple((self.index(a), self.index(b)) for a, b in self.limbs)

    def offset_layout(self, reverse: bool = False) -> OffsetLayout:
        """The edges of the offset maps; `reverse` adds those from each parent to its child."""
        return OffsetLayout.from_skeleton(self, reverse)


@dataclass(frozen=True)
class OffsetLayout:
    """The offset maps, two channels (y, x) an edge: in the window of joint `source[e]`, target - pixel.

    `target` is a joint index, or `Skeleton.centre` (= K). Edges come in keypoint order (the public
    code's channel order): a limb joint has one to its parent, then one to the centre; a centre-only
    joint has one to the centre. Reverse edges (parent -> child) follow at the end.
    """

    source: np.ndarray  # (E,) int
    target: np.ndarray  # (E,) int
    # (E,) int: edge e of a mirrored image is edge flip_edge[e] of the image, x negated
    flip_edge: np.ndarray
    num_forward: int  # edges before the reverse ones

    @staticmethod
    def from_skeleton(skeleton: Skeleton, reverse: bool = False) -> OffsetLayout:
        """The layout of a skeleton."""
        edges: list[tuple[int, int]] = []
        for joint in range(skeleton.num_keypoints):
            if joint in skeleton.parent_index:
                edges.append((joint, skeleton.parent_index[joint]))
            if joint in skeleton.parent_index or joint in skeleton.centre_only_indices:
                edges.append((joint, skeleton.centre))
        num_forward = len(edges)
        if reverse:
            edges += [(parent, child) for child, parent in skeleton.parent_index.items()]

        flip = skeleton.flip_index_with_centre.tolist()
        index = {edge: number for number, edge in enumerate(edges)}
        flip_edge = [index[flip[source], flip[target]] for source, target in edges]

        source, target = np.array(edges, dtype=np.int64).reshape(-1, 2).T
        return OffsetLayout(source, target, np.array(flip_edge, dtype=np.int64), num_forward)

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.source)

    @property
    def num_channels(self) -> int:
        """C = 2 E; edge e has y in channel 2e and x in channel 2e + 1."""
        return 2 * len(self.source)

    @cached_property
    def flip_channels(self) -> np.ndarray:
        """(C,) int: channel c of a mirrored image's maps is channel flip_channels[c] of the image's.

        Its values are those of the image times flip_signs[c].
        """
        return np.stack([2 * self.flip_edge, 2 * self.flip_edge + 1], axis=1).reshape(-1)

    @cached_property
    def flip_signs(self) -> np.ndarray:
        """(C,) float32: +1 for y channels, -1 for x channels."""
        return np.tile(np.array([1.0, -1.0], dtype=np.float32), self.num_edges)

    def edge(self, source: int, target: int) -> int:
        """Index of the edge from joint `source` to `target`; ValueError where there is none."""
        found = np.flatnonzero((self.source == source) & (self.target == target))
        if not len(found):
            raise ValueError(
                f"there is no offset map from joint {source} to {target}; are reverse offsets off?"
            )
        return int(found[0])


COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    flip_pairs=(
        ("left_eye", "right_eye"), ("left_ear", "right_ear"), ("left_shoulder", "right_shoulder"),
        ("left_elbow", "right_elbow"), ("left_wrist", "right_wrist"), ("left_hip", "right_hip"),
        ("left_knee", "right_knee"), ("left_ankle", "right_ankle"),
    ),
    torso=("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    parents={
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder", "left_wrist": "left_elbow",
        "right_wrist": "right_elbow", "left_knee": "left_hip", "right_knee": "right_hip", "left_ankle": "left_knee",
        "right_ankle": "right_knee",
    },
    centre_only=("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    sigmas=(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    limbs=(
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
        ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye"), ("nose", "left_eye"),
        ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"), ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
)  # fmt: skip

# Sigmas: the CrowdPose authors' evaluator.
CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    flip_pairs=(
        ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"), ("left_wrist", "right_wrist"),
        ("left_hip", "right_hip"), ("left_knee", "right_knee"), ("left_ankle", "right_ankle"),
    ),
    torso=("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    parents={
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder", "left_wrist": "left_elbow",
        "right_wrist": "right_elbow", "left_knee": "left_hip", "right_knee": "right_hip", "left_ankle": "left_knee",
        "right_ankle": "right_knee",
    },
    centre_only=("head", "neck"),
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    limbs=(
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
        ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
        ("left_shoulder", "neck"), ("right_shoulder", "neck"), ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("head", "neck"),
    ),
)  # fmt: skip

# MPII is scored by PCKh and has no OKS sigmas of its own: COCO's for the joints both have, CrowdPose's for neck and head.
MPII = Skeleton(
    name="mpii",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "pelvis", "thorax", "upper_neck", "head_top",
    ),
    flip_pairs=(
        ("left_shoulder", "right_shoulder"), ("left_elbow", "right_elbow"), ("left_wrist", "right_wrist"),
        ("left_hip", "right_hip"), ("left_knee", "right_knee"), ("left_ankle", "right_ankle"),
    ),
    torso=("left_shoulder", "right_shoulder", "left_hip", "right_hip", "pelvis", "thorax"),
    parents={
        "left_elbow": "left_shoulder", "right_elbow": "right_shoulder", "left_wrist": "left_elbow",
        "right_wrist": "right_elbow", "left_knee": "left_hip", "right_knee": "right_hip", "left_ankle": "left_knee",
        "right_ankle": "right_knee",
    },
    centre_only=("upper_neck", "head_top"),
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.107, 0.079, 0.079, 0.079),
    limbs=(
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
        ("left_hip", "pelvis"), ("right_hip", "pelvis"), ("pelvis", "thorax"), ("thorax", "upper_neck"),
        ("upper_neck", "head_top"), ("left_shoulder", "thorax"), ("right_shoulder", "thorax"),
        ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
    ),
)  # fmt: skip

# The same keypoints in the order of MPII's own files: position = joint id.
MPII_FILE_KEYPOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, MPII)}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton called `name` (coco, crowdpose, mpii), or the one in the yaml file at that path.

    Raises UserError saying which names are valid, which file is missing, or what is wrong in it.
    """
    if name in SKELETONS:
        return SKELETONS[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"skeleton '{name}' is unknown; use one of {', '.join(SKELETONS)}, or the path of a skeleton yaml"
        )
    if not path.is_file():
        raise UserError(
            f"skeleton file '{name}' does not exist (looked in {path.absolute().parent})"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"skeleton file '{name}' is not valid yaml: {error}") from error
    return skeleton_from_dict(content, name)


def skeleton_to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """Plain lists and dicts with the yaml's fields, so that a checkpoint can carry its skeleton."""
    content: dict[str, Any] = {"name": skeleton.name, "keypoints": list(skeleton.keypoints)}
    content["flip_pairs"] = [list(pair) for pair in skeleton.flip_pairs]
    content |= {
        "torso": list(skeleton.torso),
        "parents": dict(skeleton.parents),
        "centre_only": list(skeleton.centre_only),
    }
    content["sigmas"] = [] if skeleton.sigmas_are_default else list(skeleton.sigmas)
    content["limbs"] = [list(pair) for pair in skeleton.limbs]
    return content


def skeleton_from_dict(content: Any, where: str) -> Skeleton:
    """The inverse of `skeleton_to_dict`; `where` names the source in errors (UserError)."""
    if not isinstance(content, dict):
        raise UserError(f"skeleton '{where}' must be a mapping with the fields {', '.join(FIELDS)}")
    unknown = [key for key in content if key not in FIELDS]
    missing = [key for key in FIELDS[:6] if key not in content]
    if unknown or missing:
        raise UserError(
            f"skeleton '{where}': missing fields {missing}, unknown fields {unknown}; "
            f"the fields are {', '.join(FIELDS)} (sigmas and limbs may be left out)"
        )
    try:
        return Skeleton(
            name=str(content["name"]),
            keypoints=tuple(str(name) for name in content["keypoints"]),
            flip_pairs=tuple((a, b) for a, b in content["flip_pairs"] or ()),
            torso=tuple(content["torso"] or ()),
            parents=dict(content["parents"] or {}),
            centre_only=tuple(content["centre_only"] or ()),
            sigmas=tuple(float(sigma) for sigma in content.get("sigmas") or ()),
            limbs=tuple((a, b) for a, b in content.get("limbs") or ()),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"skeleton '{where}': {error}") from error
