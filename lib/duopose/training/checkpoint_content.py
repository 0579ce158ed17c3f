"""Whether a dictionary is the content of a checkpoint, before anything of it is used.

The shapes of weights and moments are compared with the network's when they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import torch

from duopose.errors import UserError

MAX_CONFIG_TEXT = 1_000_000  # characters; the settings of a run have 3,000


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_position(value: Any) -> bool:
    counts = {"epoch", "seen", "step"}
    return (
        isinstance(value, dict)
        and set(value) == counts | {"validation_due"}
        and all(_is_count(value[name]) for name in counts)
        and isinstance(value["validation_due"], bool)
    )


def _is_best(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"score", "epoch"}
        and _is_finite(value["score"])
        and isinstance(value["epoch"], int)
    )


def is_state(value: Any) -> TypeGuard[dict[str, torch.Tensor]]:
    """Whether a value is a dictionary of tensors by name."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def _is_optimizer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"state", "param_groups"}
        and isinstance(value["state"], dict)
        and all(isinstance(entry, dict) for entry in value["state"].values())
        and isinstance(value["param_groups"], list)
        and all(_is_group(group) for group in value["param_groups"])
    )


def _is_group(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("params"), list)


def _is_precision(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("scaler"), dict)
        and "skipped" in value
        and all(_is_finite(count) for name, count in value.items() if name != "scaler")
    )


def _is_ranks(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(own, dict) and _is_own(own) for own in value)
    )


def _is_own(own: Mapping[str, Any]) -> bool:
    """The state of one rank."""
    meter = own.get("meter")
    random = own.get("random")
    return (
        isinstance(random, dict)
        and {"python", "numpy", "torch", "cuda"} <= set(random)
        and isinstance(meter, dict)
        and {"names", "sums"} <= set(meter)
        and isinstance(meter["names"], list)
        and _is_count(own.get("skipped", 0))
        and _are_sums(meter["sums"], len(meter["names"]))
    )


def _are_sums(sums: Any, num_terms: int) -> bool:
    if sums is None:
        return True
    return isinstance(sums, torch.Tensor) and tuple(sums.shape) == (num_terms + 1,)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CONFIG_TEXT


ENTRIES: dict[str, Callable[[Any], bool]] = {
    "position": _is_position,
    "best": _is_best,
    "network": is_state,
    "optimizer": _is_optimizer,
    "precision": _is_precision,
    "averaged": lambda value: value is None or is_state(value),
    "ranks": _is_ranks,
    "config": _is_text,
    "metrics_csv_bytes": _is_count,
}


def check_content(content: Mapping[str, Any], path: object) -> None:
    """UserError naming the first entry that is missing or of another form."""
    for name, is_right in ENTRIES.items():
        if name not in content or not is_right(content[name]):
            problem = "is of another form" if name in content else "is missing"
            raise UserError(
                f"{path} is no checkpoint of Duopose or is damaged: its entry '{name}' {problem}; "
                "resume from another checkpoint, or start from its weights (MODEL.PRETRAINED)"
            )
