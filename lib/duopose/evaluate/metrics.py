"""The numbers of an evaluation, and what has to be said about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metrics:
    """Plain name -> share (0 to 1); None ("n/a") where the ground truth has no such people, so that there is nothing to measure."""

    values: dict[str, float | None]
    notes: tuple[
        str, ...
    ] = ()  # sentences that belong beside the numbers: why AP is 0, that sigmas are defaults
    facts: dict[str, Any] = field(
        default_factory=dict
    )  # what was counted and how, for the protocol
    headline: str = "AP"  # the number by which models are compared; MPII: Total

    @property
    def main(self) -> float:
        """The headline number; 0 where there was nothing to measure, or no truth."""
        return self.values.get(self.headline) or 0.0
