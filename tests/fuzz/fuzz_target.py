"""A reader under fuzzing: how its files are made, and all that is done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from duopose.errors import UserError


@dataclass(frozen=True)
class Target:
    """One kind of file.

    make: a changed file; every choice comes from the generator. use: the reader, and what stands
    behind it; a UserError is the only error that it may raise.
    """

    name: str
    suffix: str
    valid: bytes  # a file that `use` must accept
    make: Callable[[Random], bytes]
    use: Callable[[Path], object]


# Makes a target; the folder is for files that stay, and for those of the cases.
MakeTarget = Callable[[Path], Target]


def problem_of(function: Callable[[], object]) -> UserError | None:
    """What a call refuses, None where it accepts."""
    try:
        function()
    except UserError as error:
        return error
    return None


def raise_first(problems: list[UserError | None]) -> None:
    """Raise the first problem, so that the case counts as refused."""
    for problem in problems:
        if problem is not None:
            raise problem
