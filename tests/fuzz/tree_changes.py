"""Changes of a valid tree of lists and mappings: odd and near values, types, keys, lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.trust.mutations import ODD_VALUES

MAX_STEPS = 12  # down into the tree
STOP = 0.25  # probability to change a list or mapping itself, and not what is in it
LONG = 50  # times that a list is repeated
NUMBERS_OF_CHANGES = (1, 1, 1, 2, 3)
FACTORS = (-1, 0.5, 2, 10, 1000, 1e6, 1e12)


def changed_tree(content: Any, rng: Random, odd_values: Sequence[Any] = ODD_VALUES) -> Any:
    """A copy with one to three changes; tensors and other leaves are not copied.

    Every second one has near values alone, which more often pass the reader.
    """
    root = [copied(content)]  # so that the content itself may be replaced
    changes = rng.choice((_CHANGES, _MILD_CHANGES))
    for _ in range(rng.choice(NUMBERS_OF_CHANGES)):
        parent, key = _walk(root, rng)
        if parent is None:
            break
        change = rng.choice(changes)
        change(parent, key, rng, root, odd_values)
    return root[0] if root else None


def copied(value: Any) -> Any:
    """Lists and mappings anew."""
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    return value


def _walk(root: list[Any], rng: Random) -> tuple[Any, Any]:
    """A list or mapping and the key of a value in it; every level is as probable as the next."""
    parent: Any = None
    key: Any = None
    value: Any = root
    for _ in range(MAX_STEPS):
        if not isinstance(value, dict | list) or not value:
            break
        if parent is not None and parent is not root and rng.random() < STOP:
            break
        parent = value
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        value = parent[key]
    return parent, key


# ---- changes of one value: parent[key] ----


def _set_odd(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    parent[key] = copied(rng.choice(odd_values))


def _set_near(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    parent[key] = near_value(parent[key], rng)


def _set_other(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    """The value of another key of the tree."""
    other_parent, other_key = _walk(root, rng)
    parent[key] = copied(other_parent[other_key])


def _set_type(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    """The same value as another type."""
    value = parent[key]
    kinds: list[Any] = [[value], {"a": value}, str(value)[:1000], bool(str(value))]
    if isinstance(value, int):
        kinds.append(float(value) if abs(value) < 2**53 else 0.5)
    parent[key] = rng.choice(kinds)


def _remove(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    del parent[key]


def _repeat(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    """One more in a list, many more, or the same under another key."""
    value = parent[key]
    if isinstance(parent, list):
        number = rng.choice((1, 1, LONG))
        parent[key:key] = [copied(value) for _ in range(number)]
    else:
        parent[rng.choice(("a", f"{key}x", key, ""))] = copied(value)


def _rename(parent: Any, key: Any, rng: Random, root: Any, odd_values: Sequence[Any]) -> None:
    """Another key in a mapping, another order in a list."""
    if isinstance(parent, list):
        rng.shuffle(parent)
        return
    names = [str(key).upper(), f"{key}s", str(key)[:-1], rng.choice(list(parent)), 5]
    parent[rng.choice(names)] = parent.pop(key)


_CHANGES: Sequence[Callable[..., None]] = (
    _set_odd, _set_odd, _set_near, _set_near, _set_near, _set_other, _set_type, _remove, _repeat,
    _rename,
)  # fmt: skip
_MILD_CHANGES = (_set_near, _set_near, _set_near, _set_near, _remove, _repeat)


def near_value(value: Any, rng: Random) -> Any:
    """A value of the same type: what a reader that checks types alone lets pass."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return _near_number(value, rng)
    if isinstance(value, str):
        return _near_text(value, rng)
    if isinstance(value, list):
        middle = rng.randint(0, len(value))
        return rng.choice((value[:middle], value[middle:], value + value, value[::-1], value[:1]))
    if isinstance(value, dict):
        kept = rng.sample(list(value), rng.randint(0, len(value)))
        return {key: value[key] for key in kept}
    return value


def _near_number(value: float, rng: Random) -> float:
    changes = [value + 1, value - 1, rng.randint(-3, 100), rng.uniform(-10, 700), 0]
    changes += [value * factor for factor in FACTORS]
    changed: float = rng.choice(changes)
    is_whole = isinstance(value, int) and abs(changed) < 1e18
    return int(changed) if is_whole and rng.random() < 0.8 else changed


def _near_text(value: str, rng: Random) -> str:
    position = rng.randint(0, len(value))
    inserted = rng.choice(("", " ", "0", "a", "/", "..", ".", "-", "\n", "é", "\0", "e9", "_", "'"))
    changed = value[:position] + inserted + value[position + rng.randint(0, 2) :]
    return rng.choice((changed, changed, value[:position], value * 2, value.upper()))
