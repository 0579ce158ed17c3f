"""How much each loss term pulls at the features that all heads share.

With g_t the gradient of the weighted term t at the stride-4 features, and h the sum of g_t over the
heatmap terms:

    share of t    |g_t| / sum_s |g_s|
    cosine of t   <g_t, h> / (|g_t| |h|)

A large share takes steps from the other terms; a negative cosine works against the heatmaps; a
cosine of 0 asks for other features than they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from duopose.losses.criterion import Criterion
from duopose.network.pose_net import PoseNet
from duopose.training.step import MakeTargets, Normalise
from duopose.types import Batch

HEATMAP_TERMS = "heatmap_"  # what their names start with


class GradientNorms(NamedTuple):
    """By the names of the loss terms."""

    share: dict[str, float]
    cosine: dict[str, float]


def gradient_norms(
    network: PoseNet,
    criterion: Criterion,
    make_targets: MakeTargets,
    normalise: Normalise,
    batch: Batch,
) -> GradientNorms:
    """Shares and cosines for one batch, in float32.

    An extra pass through the network that changes nothing: no gradient of a parameter, no batch
    statistics.
    """
    with statistics_unchanged(network):
        with torch.no_grad():
            features = network.backbone(normalise(batch.images))
        features = features.detach().requires_grad_()
        output = network.heads(features)

    terms = criterion.weighted_terms(output, make_targets(batch))
    gradients = {}
    for name, per_image in terms.items():
        (gradient,) = torch.autograd.grad(
            per_image.mean(), features, retain_graph=True, allow_unused=True
        )
        gradients[name] = torch.zeros_like(features) if gradient is None else gradient

    heatmaps = torch.zeros_like(features)
    for name, gradient in gradients.items():
        if name.startswith(HEATMAP_TERMS):
            heatmaps += gradient
    return _shares_and_cosines(gradients, heatmaps)


def _shares_and_cosines(
    gradients: dict[str, torch.Tensor], heatmaps: torch.Tensor
) -> GradientNorms:
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    total = sum(norms.values())
    heatmap_norm = float(heatmaps.norm())

    share = {}
    cosine = {}
    for name, gradient in gradients.items():
        share[name] = norms[name] / total if total else 0.0
        scale = norms[name] * heatmap_norm
        cosine[name] = float((gradient * heatmaps).sum()) / scale if scale else 0.0
    return GradientNorms(share, cosine)


@contextmanager
def statistics_unchanged(network: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the batch's statistics, as in training, and does not keep them."""
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
