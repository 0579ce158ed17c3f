"""What training is made of: built from the settings here, or from stand-ins in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.config import build_skeleton
from duopose.datasets import build_dataset
from duopose.datasets.loader import KeyedDataset, collate
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.inference.evaluation import evaluate_split
from duopose.inference.predictor import Predictor
from duopose.losses import build_criterion
from duopose.network import build_network, load_weights
from duopose.run_folder import RunFolder
from duopose.skeletons import skeleton_to_dict
from duopose.targets import build_targets
from duopose.training.train_loader import Collate
from duopose.types import Batch, LossTerms, NetworkOutput, Targets


@dataclass(frozen=True)
class Scores:
    """A validation's numbers on rank 0; `main` (AP) decides which weights are the best."""

    main: float
    values: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Components:
    """Everything that the loop calls and does not know from inside."""

    network: nn.Module  # on the CPU
    dataset: KeyedDataset
    collate: Collate
    normalise: Callable[[torch.Tensor], torch.Tensor]  # uint8 -> float, on the device
    targets: Callable[[Batch], Targets]
    loss: Callable[[NetworkOutput, Targets], LossTerms]
    validate: Callable[[nn.Module], Scores | None] | None = (
        None  # called on all ranks; None on those other than the first
    )
    skeleton: Mapping[str, Any] = field(
        default_factory=dict
    )  # as `skeleton_to_dict` gives it, for model files
    notices: tuple[str, ...] = ()  # to be told at the start


ComponentsBuilder = Callable[[CfgNode, DistributedContext, RunFolder], Components]


def build_components(cfg: CfgNode, context: DistributedContext, run: RunFolder) -> Components:
    """The real parts. Data and weights are opened here, so that mistakes show before the first step."""
    skeleton = build_skeleton(cfg)
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TRAIN, train=True)
    network = build_network(cfg, skeleton)
    notices = (str(load_weights(network, cfg.MODEL.PRETRAINED)),) if cfg.MODEL.PRETRAINED else ()
    if cfg.TRAIN.VAL_EVERY:
        # Finds a missing validation split now, not after the first epochs.
        build_dataset(cfg, skeleton, layout, cfg.DATASET.TEST, train=False)

    def score(weights: nn.Module) -> Scores | None:
        predictor = Predictor.from_config(cfg, weights, skeleton, context.device)
        folder = run.results / "training"
        metrics = evaluate_split(predictor, cfg, skeleton, context, folder).metrics
        if metrics is None:
            return None
        return Scores(
            metrics.main,
            {name: value for name, value in metrics.values.items() if value is not None},
            metrics.notes,
        )

    return Components(
        network=network,
        dataset=dataset,
        collate=collate,
        normalise=normalise,
        targets=build_targets(cfg, skeleton),
        loss=build_criterion(cfg, skeleton),
        validate=score if cfg.TRAIN.VAL_EVERY else None,
        skeleton=skeleton_to_dict(skeleton),
        notices=notices,
    )
