"""A draft of a skeleton from the names of its keypoints, for a person to confirm.

Names say which keypoints are left and right and often which part of the body they are. Everything
that is concluded from this is marked "confirm" in the draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from duopose.errors import UserError
from duopose.skeletons import COCO, DEFAULT_SIGMA, Skeleton

# From the end of a limb to the torso; a name belongs to the first part that it contains.
LIMBS = (("wrist", "elbow", "shoulder"), ("ankle", "knee", "hip"))
ALIASES = {
    "hand": "wrist", "foot": "ankle", "paw": "ankle", "toe": "toe", "heel": "toe",
    "finger": "finger", "thumb": "finger",
}  # fmt: skip
ENDS = {"toe": "ankle", "finger": "wrist"}  # parts beyond the last joint of a limb
TORSO = (
    "shoulder", "hip", "pelvis", "neck", "thorax", "spine", "chest", "torso", "back", "withers",
    "tailbase", "tail_base", "hips",
)  # fmt: skip
OTHER_SIGMAS = {"pelvis": 0.107, "neck": 0.079, "thorax": 0.079}  # as hip and shoulder

_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
# Parts of a name: words in camelCase, in capitals, in small letters, and numbers.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


def draft_skeleton(
    name: str, keypoints: Sequence[str], flip_pairs: Sequence[tuple[str, str]] | None = None
) -> Skeleton:
    """A usable skeleton with guessed roles. flip_pairs: where they are known."""
    pairs = list(guess_flip_pairs(keypoints) if flip_pairs is None else flip_pairs)
    parents = _guess_parents(keypoints)
    try:
        return _assemble(name, keypoints, pairs, parents)
    except UserError:  # sides that do not mirror each other
        return _assemble(name, keypoints, pairs, {})


def guess_flip_pairs(keypoints: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in left and right: left_eye, EyeLeft, l_eye, eye.L, LEye, lefteye.

    Left comes first.
    """
    by_words = {_words(name): name for name in keypoints}
    pairs: list[tuple[str, str]] = []
    for name in keypoints:
        mirrored = tuple(_SIDES.get(word, word) for word in _words(name))
        partner = by_words.get(mirrored, name)
        if partner == name:
            partner = _replace_side(name)
        is_left = "left" in name.lower() or "l" in _words(name)
        if partner != name and partner in keypoints and is_left:
            pairs.append((name, partner))

    partners = [name for pair in pairs for name in pair]
    return [pair for pair in pairs if all(partners.count(name) == 1 for name in pair)]


def _replace_side(name: str) -> str:
    """leftear -> rightear."""
    for one, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        if one in name:
            return name.replace(one, other)
    return name


def _words(name: str) -> tuple[str, ...]:
    """The parts of a name in small letters; LEye and lEye are ("l", "eye")."""
    words = [
        word.lower() for word in _WORDS.findall(re.sub(r"^([LRlr])(?=[A-Z][a-z])", r"\1_", name))
    ]
    return tuple(words)


def _part(name: str) -> str:
    """The part of the body that a name contains, or an empty text."""
    lowered = name.lower()
    known = [*ALIASES, *(part for limb in LIMBS for part in limb)]
    found = next((part for part in known if part in lowered), "")
    return ALIASES.get(found, found)


def _side(name: str) -> str:
    words = set(_words(name))
    lowered = name.lower()
    if "left" in lowered or "l" in words:
        return "left"
    return "right" if "right" in lowered or "r" in words else ""


def _guess_parents(keypoints: Sequence[str]) -> dict[str, str]:
    """The next keypoint towards the torso, of the same side, if the limb's last one exists."""
    by_part = {(_part(name), _side(name)): name for name in keypoints}
    parents: dict[str, str] = {}
    for name in keypoints:
        part = _part(name)
        limb = next((limb for limb in LIMBS if ENDS.get(part, part) in limb), ())
        if not limb or part == limb[-1] or (limb[-1], _side(name)) not in by_part:
            continue
        start = 0 if part in ENDS else limb.index(part) + 1
        nearer = [by_part.get((other, _side(name))) for other in limb[start:]]
        parents[name] = next(other for other in nearer if other)
    return parents


def _assemble(
    name: str,
    keypoints: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    parents: dict[str, str],
) -> Skeleton:
    """The groups from the parents: known parts of the torso, and the rest to the centre.

    Without a known part of the torso, all keypoints that are not limbs are grouped by tags.
    """
    free = [keypoint for keypoint in keypoints if keypoint not in parents]
    torso = [keypoint for keypoint in free if _is_torso(keypoint)]
    partners = dict([*pairs, *((right, left) for left, right in pairs)])
    torso = [keypoint for keypoint in torso if partners.get(keypoint, keypoint) in torso] or free
    return Skeleton(
        name=name,
        keypoints=tuple(keypoints),
        flip_pairs=tuple(pairs),
        torso=tuple(torso),
        parents=parents,
        centre_only=tuple(keypoint for keypoint in free if keypoint not in torso),
        sigmas=_guess_sigmas(keypoints),
    )


def _is_torso(keypoint: str) -> bool:
    """Whether a name contains a part of the torso; left_back_paw is a limb."""
    is_limb = _part(keypoint) in {*ENDS, *(part for limb in LIMBS for part in limb[:-1])}
    return not is_limb and any(word in keypoint.lower() for word in TORSO)


def _guess_sigmas(keypoints: Sequence[str]) -> tuple[float, ...]:
    """COCO's sigma of the same part; DEFAULT_SIGMA where there is none. Empty if none is known."""
    coco = {joint.split("_")[-1]: sigma for joint, sigma in zip(COCO.keypoints, COCO.sigmas)}
    known = coco | OTHER_SIGMAS
    found = []
    for name in keypoints:
        words = [_part(name), *_words(name)]
        found.append(next((known[word] for word in words if word in known), None))
    if not any(found):
        return ()
    return tuple(DEFAULT_SIGMA if sigma is None else sigma for sigma in found)


# ---- the yaml ----


def draft_text(skeleton: Skeleton, source: str, has_known_pairs: bool = False) -> str:
    """The draft as yaml, with a comment wherever something was guessed."""
    lines = [
        f"# Draft of tools/convert.py from {source!a}.",
        "# Everything with the comment 'confirm' is guessed. docs/own_data.md explains the fields.",
        f"name: {_flow(skeleton.name)}",
        f"keypoints: {_flow(list(skeleton.keypoints))}",
    ]
    origin = "as in the source" if has_known_pairs else "confirm: from left and right in the names"
    lines.append(
        f"flip_pairs:  # {origin}" if skeleton.flip_pairs else f"flip_pairs: []  # {origin}"
    )
    lines += [f"  - {_flow(list(pair))}" for pair in skeleton.flip_pairs]

    torso = "confirm: two to six keypoints that are seldom hidden"
    lines.append(f"torso: {_flow(list(skeleton.torso))}  # {torso}")
    lines.append("parents:" if skeleton.parents else "parents: {}  # confirm: none was recognised")
    for child, parent in skeleton.parents.items():
        lines.append(f"  {_flow(child)}: {_flow(parent)}  # confirm")

    lines.append(f"centre_only: {_flow(list(skeleton.centre_only))}  # confirm: all others")
    if skeleton.sigmas_are_default:
        lines.append(
            f"# sigmas: [...]  # confirm: none is known; without them {DEFAULT_SIGMA} for all"
        )
    else:
        origin = f"confirm: COCO's of the same parts, {DEFAULT_SIGMA} for others"
        lines.append(f"sigmas: {_flow(list(skeleton.sigmas))}  # {origin}")
    return "\n".join(lines) + "\n"


def _flow(value: object) -> str:
    """One line of yaml, quoted where needed."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
