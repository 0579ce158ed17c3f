"""How a setting is declared: one `Setting` holds its key, default, check and meaning.

`default_config`, `config_problems`, docs/settings.md and the decoder's plain settings are made from
these declarations, so that nothing about a setting is written twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A condition on one value, and the condition in words ("greater than 0")."""

    accepts: Callable[[Any], bool]
    allowed: str
    choices: tuple[str, ...] = ()  # of a text that is one of a few


@dataclass(frozen=True)
class Setting:
    """One setting.

    The type of a value is that of the default: `load` converts 1 to 1.0 and refuses "many".
    `check` then tests the converted value.
    """

    key: str  # "SECTION.NAME" or "NAME"
    default: Any
    check: Check
    doc: str  # meaning and unit, for docs/settings.md
    field: str = ""  # of decode.DecoderSettings, where the decoder reads this setting

    def problem(self, value: Any) -> str:
        """One sentence if `value` is not allowed, else ''."""
        if self.check.accepts(value):
            return ""
        hint = did_you_mean(value, self.check.choices)
        return f"{self.key}: {value!r} is not allowed; allowed: {self.check.allowed}{hint}"


def one_of(*choices: str) -> Check:
    """One of these texts; an empty text is written '' in messages."""
    names = [choice or "''" for choice in choices]
    allowed = " | ".join(names)
    return Check(lambda value: value in choices, allowed, choices)


def did_you_mean(value: Any, choices: Iterable[str]) -> str:
    """'; did you mean X?' where one of the choices is near, else ''. Case does not count."""
    by_lower = {choice.lower(): choice for choice in choices if choice}
    near = difflib.get_close_matches(str(value).lower(), by_lower, n=1, cutoff=0.7)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def whole_number(low: int, high: int) -> Check:
    """A whole number from `low` to `high`, where a larger one would only fill the memory."""
    return Check(lambda value: low <= value <= high, f"from {low} to {high}")


SWITCH = Check(lambda value: isinstance(value, bool), "True | False")
TEXT = Check(lambda value: isinstance(value, str), "text")
INTEGER = Check(lambda value: isinstance(value, int), "a whole number")
NUMBER = Check(lambda value: isinstance(value, float), "a number")
NUMBERS = Check(lambda values: isinstance(values, list), "a list of whole numbers, may be empty")

POSITIVE = Check(lambda value: value > 0, "greater than 0")
NOT_NEGATIVE = Check(lambda value: value >= 0, "0 or more")
FRACTION = Check(lambda value: 0 <= value <= 1, "from 0 to 1")
BELOW_ONE = Check(lambda value: 0 <= value < 1, "from 0 to below 1")
PROBABILITY = Check(lambda value: 0 < value < 1, "between 0 and 1")
ODD = Check(lambda value: 0 < value < 1000 and value % 2 == 1, "an odd number from 1 to 999")
# HRNet halves its maps five times; see network/hrnet.py.
MULTIPLE_OF_32 = Check(
    lambda value: 0 < value <= 16384 and value % 32 == 0, "a multiple of 32, at most 16384"
)
SEED = whole_number(0, 2**63 - 1)

POSITIVE_NUMBERS = Check(
    lambda values: 0 < len(values) <= 20 and min(values) > 0 and max(values) <= 16,
    "a list of 1 to 20 numbers above 0, at most 16",
)
FACTOR_PER_STRIDE = Check(
    lambda values: len(values) == 2 and min(values) >= 0, "two numbers, 0 or more"
)
THREE_POSITIVE = Check(
    lambda values: len(values) == 3 and min(values) >= 1 and max(values) <= 100,
    "three whole numbers from 1 to 100",
)
