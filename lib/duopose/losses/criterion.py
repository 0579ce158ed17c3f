"""The training loss: named terms, each with a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from duopose.types import LossTerms, NetworkOutput, Targets

# Computes one or more unweighted terms: name -> (B,) loss per image.
LossFunction = Callable[[NetworkOutput, Targets], dict[str, torch.Tensor]]


class Criterion:
    """The weighted sum of loss terms, in the manner of DETR.

    functions: each gives named terms. weights: the weight of every name.
    Logs, curves and metrics.csv take the names of the terms from here.
    """

    def __init__(self, functions: Iterable[LossFunction], weights: Mapping[str, float]) -> None:
        self.functions = tuple(functions)
        self.weights = dict(weights)

    def __call__(self, output: NetworkOutput, targets: Targets) -> LossTerms:
        """The weighted terms of a batch, in float32 even under mixed precision.

        Nothing here waits for the device. ValueError where a term has no weight.
        """
        with torch.autocast(output.tags.device.type, enabled=False):
            terms = self.weighted_terms(output.map(torch.Tensor.float), targets)

        per_image = torch.stack(list(terms.values())).sum(dim=0)
        detached = {name: term.detach() for name, term in terms.items()}
        return LossTerms(per_image.mean(), detached)

    def weighted_terms(self, output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        """The terms by name, each (B,), times its weight. ValueError where one has no weight."""
        terms: dict[str, torch.Tensor] = {}
        for function in self.functions:
            terms |= function(output, targets)

        without_weight = terms.keys() - self.weights.keys()
        if without_weight:
            raise ValueError(f"loss terms without a weight: {', '.join(sorted(without_weight))}")
        return {name: self.weights[name] * term for name, term in terms.items()}
