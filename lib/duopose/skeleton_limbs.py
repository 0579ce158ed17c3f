"""The pairs of joints to draw for a skeleton that gives none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Row = tuple[str, ...]  # a left-right pair, or a single joint
Pair = tuple[str, str]

UPPER_BODY = ("shoulder", "neck", "thorax")  # parts of names, by which a head's end is recognised


def default_limbs(
    flip_pairs: Sequence[Pair],
    torso: Sequence[str],
    parents: Mapping[str, str],
    centre_only: Sequence[str],
) -> tuple[Pair, ...]:
    """Limbs, torso and head as one figure.

    Joints come in rows (see `_rows`). A row of the torso is joined to the next one on each side,
    and its two sides to each other. Rows of centre-only joints, as of a face, are joined to the
    next, and the first one to that end of the torso where shoulders or a neck are.
    """
    torso_rows = _rows(torso, flip_pairs)
    other_rows = _rows(centre_only, flip_pairs)
    limbs = list(parents.items())
    limbs += [(row[0], row[1]) for row in torso_rows if len(row) > 1]

    for upper, lower in [*pairwise(torso_rows), *pairwise(other_rows)]:
        limbs += _joined(upper, lower)
    if torso_rows and other_rows:
        limbs += _joined(other_rows[0], _upper_end(torso_rows))
    return tuple(limbs)


def _rows(names: Sequence[str], flip_pairs: Sequence[Pair]) -> list[Row]:
    """The names as left-right pairs and single joints, in the order of the first of each."""
    pair_of = {name: pair for pair in flip_pairs for name in pair}
    rows: list[Row] = []
    for name in names:
        row = pair_of.get(name, (name,))
        if row not in rows:
            rows.append(row)
    return rows


def _upper_end(torso: Sequence[Row]) -> Row:
    """The first row of the torso, unless the last alone is named as upper body."""
    first = torso[0]
    last = torso[-1]
    return last if _is_upper(last) and not _is_upper(first) else first


def _is_upper(row: Row) -> bool:
    return any(part in name.lower() for name in row for part in UPPER_BODY)


def _joined(one: Row, other: Row) -> list[Pair]:
    """Left to left and right to right; a single joint to both sides."""
    if len(one) == len(other):
        return list(zip(one, other, strict=True))
    return [(first, second) for first in one for second in other]
