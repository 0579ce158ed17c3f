"""Loss terms by name, summed on the device and read seldom."""

from __future__ import annotations

from typing import Any

import torch

from duopose.distributed.context import DistributedContext
from duopose.types import LossTerms


class Meter:
    """Sums of the loss terms over images since the last reading; nothing waits for the device before `read`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: torch.Tensor | None = None  # (terms + 1,) the last one counts images

    def add(self, terms: LossTerms, counts: bool = True) -> None:
        """Take in a batch; one that does not count still gives this rank something to sum with the others."""
        values = torch.stack(list(terms.per_image.values()))
        exact = torch.float32 if values.device.type == "mps" else torch.float64
        row = torch.cat(
            (
                values.to(exact).sum(1),
                torch.full((1,), values.shape[1], dtype=exact, device=values.device),
            )
        )
        row = row * counts
        self.names = list(terms.per_image)
        self.sums = row if self.sums is None else self.sums.to(row.device) + row

    def read(self, context: DistributedContext) -> dict[str, float]:
        """The mean of each term over all ranks' images, and of their sum as 'loss'; starts anew. Empty where nothing came."""
        if self.sums is None:
            return {}
        *sums, count = context.all_reduce_sum(self.sums).tolist()
        self.sums = None
        means = {name: value / max(count, 1) for name, value in zip(self.names, sums, strict=True)}
        return {"loss": sum(means.values()), **means}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"names": self.names, "sums": None if self.sums is None else self.sums.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.names, self.sums = list(state["names"]), state["sums"]
