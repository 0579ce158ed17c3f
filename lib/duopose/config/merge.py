"""Settings over defaults: every key must exist and keep its type; mistakes are collected, not raised."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode


def merge(cfg: CfgNode, settings: Mapping[str, Any]) -> list[str]:
    """Write dotted `settings` into `cfg` in place; returns one sentence per key that does not fit."""
    problems = []
    valid = list(dotted_keys(cfg))
    for key, value in settings.items():
        if key not in valid:
            problems.append(_unknown(key, valid))
            continue
        *sections, name = key.split(".")
        node = cfg
        for section in sections:
            node = node[section]
        try:
            node[name] = convert(value, node[name])
        except TypeError as error:
            problems.append(f"{key}: {error}, got {value!r} ({type(value).__name__})")
    return problems


def dotted_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """All settings as 'SECTION.KEY'."""
    keys: list[str] = []
    for name, value in cfg.items():
        keys += (
            dotted_keys(value, f"{prefix}{name}.")
            if isinstance(value, CfgNode)
            else [f"{prefix}{name}"]
        )
    return keys


def get(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def convert(value: Any, default: Any) -> Any:
    """`value` as the default's type where that loses nothing (int -> float, '1e-3' from yaml -> float, tuple -> list).

    Raises TypeError saying what was expected.
    """
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise TypeError("expected True or False")
    if isinstance(default, list):
        if not isinstance(value, (list, tuple)):
            raise TypeError("expected a list such as [1, 2]")
        return [convert(item, default[0]) for item in value] if default else list(value)
    if isinstance(default, float):
        return _to_float(value)
    if isinstance(default, int):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise TypeError("expected a whole number")
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise TypeError("expected text")


def _to_float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        if isinstance(value, str):  # yaml reads 1e-3 (without a point) as text
            return float(value)
    except ValueError:
        pass
    raise TypeError("expected a number")


def _unknown(key: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(key.upper(), valid, n=1, cutoff=0.5)
    if not near:  # the right name in the wrong section, or without one
        last = {k.rsplit(".", 1)[-1]: k for k in valid}
        near = [
            last[name]
            for name in difflib.get_close_matches(
                key.upper().rsplit(".", 1)[-1], list(last), n=1, cutoff=0.6
            )
        ]
    hint = (
        f"; did you mean {near[0]}?"
        if near
        else "; see lib/duopose/config/defaults.py for all keys"
    )
    return f"{key}: there is no such setting{hint}"
