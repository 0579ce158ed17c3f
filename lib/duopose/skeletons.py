"""Skeletons: the keypoints of a person, their grouping roles, and everything derived from them.

A `Skeleton` is the one place that defines joint order, left-right pairs, grouping roles and OKS
sigmas. Heatmap channels, tag targets, offset channels (`OffsetLayout`), flips, decoding, evaluation
and drawing are derived from it. The benchmarks' skeletons are in `skeleton_tables`; users write
their own as a yaml with the same fields (`get_skeleton`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np

from duopose import skeleton_tables
from duopose.errors import UserError
from duopose.skeleton_limbs import default_limbs
from duopose.yaml_files import read_yaml_file

REQUIRED_FIELDS = ("name", "keypoints", "flip_pairs", "torso", "parents", "centre_only")
FIELDS = (*REQUIRED_FIELDS, "sigmas", "limbs")

# OKS sigma of every keypoint where a skeleton gives none. Below the mean of COCO's sigmas (0.067),
# hence rather strict. tools/check_data.py prints a notice.
DEFAULT_SIGMA = 0.05
MAX_KEYPOINTS = 500
MAX_NAME_LENGTH = 100

_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
_Names = Annotated[list[_Name], msgspec.Meta(max_length=MAX_KEYPOINTS)]
_Pairs = Annotated[list[tuple[_Name, _Name]], msgspec.Meta(max_length=4 * MAX_KEYPOINTS)]


class _Fields(TypedDict, total=False):
    """The fields of a skeleton yaml. Sigmas may be text: yaml reads 5e-2 as text."""

    name: _Name | int
    keypoints: _Names
    flip_pairs: _Pairs | None
    torso: _Names | None
    parents: Annotated[dict[_Name, _Name], msgspec.Meta(max_length=MAX_KEYPOINTS)] | None
    centre_only: _Names | None
    sigmas: Annotated[list[float | str], msgspec.Meta(max_length=MAX_KEYPOINTS)] | None
    limbs: _Pairs | None


@dataclass(frozen=True)
class Skeleton:
    """Keypoints of a person and their roles, given by name; indices are derived.

    Every keypoint is in exactly one group: `torso` (grouped by tags), `parents` (limb joint ->
    parent nearer the torso; grouped by offsets) or `centre_only` (grouped by the offset to the
    person's centre). `limbs` are the pairs to draw (default: `default_limbs`).
    UserError listing all problems of the fields.
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
        problems = [
            *self._unknown_names(),
            *self._group_problems(),
            *self._flip_problems(),
            *self._parent_problems(),
            *self._sigma_problems(),
        ]
        if problems:
            raise UserError(f"skeleton '{self.name}' is not usable:\n  " + "\n  ".join(problems))
        if not self.limbs:
            limbs = default_limbs(self.flip_pairs, self.torso, self.parents, self.centre_only)
            object.__setattr__(self, "limbs", limbs)

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
            f"{field_name}: '{name}' is not in keypoints {list(self.keypoints)}"
            for field_name, names in used.items()
            for name in names
            if name not in self.keypoints
        ]
        if len(set(self.keypoints)) != len(self.keypoints) or not self.keypoints:
            problems.append(
                f"keypoints: need at least one name and no duplicates, got {list(self.keypoints)}"
            )
        return problems

    def _group_problems(self) -> list[str]:
        groups = (*self.torso, *self.parents, *self.centre_only)
        return [
            f"'{name}' is in {groups.count(name)} of the groups torso, parents, centre_only; "
            "it must be in exactly one"
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
        if problems or self._unknown_names():
            return problems

        mirror = self.mirror
        for name, parent in self.parents.items():
            mirrored_parent = mirror.get(parent, parent)
            if self.parents.get(mirror[name]) != mirrored_parent:
                problems.append(
                    f"flip_pairs: the parent of '{mirror[name]}' must be '{mirrored_parent}', "
                    f"the mirror of '{name}'s parent"
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
            seen = {start}
            name = self.parents[start]
            while name in self.parents and name not in seen:
                seen.add(name)
                name = self.parents[name]

            if name in seen:
                problems.append(f"parents: following them from '{start}' gives a loop at '{name}'")
        return problems

    def _sigma_problems(self) -> list[str]:
        are_positive = all(0 < sigma < math.inf for sigma in self.sigmas)
        if len(self.sigmas) == len(self.keypoints) and are_positive:
            return []
        return [
            f"sigmas: need {len(self.keypoints)} positive numbers, one per keypoint, "
            f"got {list(self.sigmas)}"
        ]

    # ---- derived properties ----

    @property
    def num_keypoints(self) -> int:
        """K, without the centre."""
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
            mirror[left] = right
            mirror[right] = left
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
        """Index of a keypoint by name; ValueError listing the valid names."""
        if name not in self.keypoints:
            raise ValueError(
                f"'{name}' is not a keypoint of skeleton '{self.name}'; "
                f"it has {', '.join(self.keypoints)}"
            )
        return self.keypoints.index(name)

    @cached_property
    def torso_indices(self) -> tuple[int, ...]:
        """Indices of the torso joints, in keypoint order."""
        return tuple(sorted(self.index(name) for name in self.torso))

    @cached_property
    def centre_only_indices(self) -> tuple[int, ...]:
        """Indices of the joints grouped by the centre offset alone, in keypoint order."""
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
        """Indices of the limb joints, a parent before its children."""

        def depth(joint: int) -> int:
            steps = 0
            while joint in self.parent_index:
                joint = self.parent_index[joint]
                steps += 1
            return steps

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
    """The edges of the offset maps; each has two channels, y and x.

    Edge e holds target[e] - pixel in the window of joint source[e].
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
        """(C,) int: flipping an image swaps channel c of its maps with channel flip_channels[c].

        The values are then multiplied by flip_signs[c].
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


COCO = Skeleton(**skeleton_tables.COCO)
CROWDPOSE = Skeleton(**skeleton_tables.CROWDPOSE)
MPII = Skeleton(**skeleton_tables.MPII)
SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, MPII)}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton called `name` (a key of SKELETONS), or the one in the yaml file at that path.

    UserError with the valid names, the missing file, or the problems in the file.
    """
    if name in SKELETONS:
        return SKELETONS[name]

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"skeleton '{name}' is unknown; use one of {', '.join(SKELETONS)}, "
            "or the path of a skeleton yaml"
        )
    return skeleton_from_dict(read_yaml_file(path, "skeleton file"), name)


def skeleton_to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """The skeleton as plain lists and dicts with the yaml's fields; checkpoints store this."""
    return {
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "torso": list(skeleton.torso),
        "parents": dict(skeleton.parents),
        "centre_only": list(skeleton.centre_only),
        "sigmas": [] if skeleton.sigmas_are_default else list(skeleton.sigmas),
        "limbs": [list(pair) for pair in skeleton.limbs],
    }


def skeleton_from_dict(content: Any, where: str) -> Skeleton:
    """Inverse of `skeleton_to_dict`; UserError naming the source `where` and the wrong fields."""
    if not isinstance(content, dict):
        raise UserError(f"skeleton '{where}' must be a mapping with the fields {', '.join(FIELDS)}")

    unknown = [key for key in content if key not in FIELDS]
    missing = [key for key in REQUIRED_FIELDS if key not in content]
    if unknown or missing:
        raise UserError(
            f"skeleton '{where}': missing fields {missing}, unknown fields {unknown}; "
            f"the fields are {', '.join(FIELDS)} (sigmas and limbs are optional)"
        )

    try:
        fields = msgspec.convert(content, _Fields)
        sigmas = tuple(float(sigma) for sigma in fields.get("sigmas") or ())
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise UserError(f"skeleton '{where}': {_in_words(str(error))}") from error

    # OpenCV dies of half a surrogate pair in a text that it draws.
    odd = [name for name in (str(fields["name"]), *fields["keypoints"]) if not name.isprintable()]
    if odd:
        raise UserError(f"skeleton '{where}': the name {odd[0]!a} has letters without a shape")
    return Skeleton(
        name=str(fields["name"]),
        keypoints=tuple(fields["keypoints"]),
        flip_pairs=tuple(fields["flip_pairs"] or ()),
        torso=tuple(fields["torso"] or ()),
        parents=dict(fields["parents"] or {}),
        centre_only=tuple(fields["centre_only"] or ()),
        sigmas=sigmas,
        limbs=tuple(fields.get("limbs") or ()),
    )


def _in_words(message: str) -> str:
    """'Expected `str`, got `int` - at `$.torso[0]`' as the end of a sentence."""
    text, _, path = message.partition(" - at `$.")
    return f"'{path.rstrip('`')}': {text.lower()}" if path else text.lower()
