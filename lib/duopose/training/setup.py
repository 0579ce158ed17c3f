"""Putting a run together: network on its device, optimizer, precision, data; what is only a wish becomes a notice."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.run_folder import RunFolder
from duopose.training.components import Components
from duopose.training.log import RunLog, SpeedMeter
from duopose.training.optim import AveragedWeights, Schedule, build_optimizer, linearly_scaled_rate
from duopose.training.partition import EpochPartition
from duopose.training.precision import Precision
from duopose.training.state import TrainState
from duopose.training.train_loader import TrainLoader

_NAMES = signature(DistributedDataParallel).parameters
_BUFFERS = (
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
)  # renamed in torch 2.13
OWN_BUFFERS: dict[str, Any] = {_BUFFERS: False}


@dataclass
class TrainingRun:
    """All objects of a run; `train.train` drives it."""

    cfg: CfgNode
    components: Components
    context: DistributedContext
    folder: RunFolder
    log: RunLog
    partition: EpochPartition
    train_loader: TrainLoader
    state: TrainState
    forward: (
        nn.Module
    )  # the network as wrapped for several processes and compilation; shares its weights
    schedule: Schedule
    speed: SpeedMeter
    rate: float = 0.0  # learning rate of the last step
    last_save: float = float("-inf")  # when the last checkpoint was written, by time.monotonic


def build_run(
    cfg: CfgNode,
    components: Components,
    context: DistributedContext,
    folder: RunFolder,
    log: RunLog,
) -> TrainingRun:
    """Everything on its device. UserError where the settings cannot work on this data or machine."""
    if not len(components.dataset):
        raise UserError(
            f"there is nothing to train on: DATASET.TRAIN '{cfg.DATASET.TRAIN}' has no images"
        )
    partition = build_shares(cfg, context, len(components.dataset))
    network = prepare_network(cfg, components.network, context)
    averaged = AveragedWeights(network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
    state = TrainState(
        network, build_optimizer(cfg, network), Precision.from_config(cfg, context.device), averaged
    )
    state.position.epoch = cfg.TRAIN.BEGIN_EPOCH
    feed = TrainLoader(
        components.dataset,
        components.collate,
        partition,
        context.device,
        cfg.WORKERS,
        cfg.TRAIN.END_EPOCH,
    )
    schedule, pace = Schedule.of(cfg), SpeedMeter(partition.images_per_step)
    return TrainingRun(
        cfg,
        components,
        context,
        folder,
        log,
        partition,
        feed,
        state,
        wrap(cfg, network, context),
        schedule,
        pace,
    )


def build_shares(cfg: CfgNode, context: DistributedContext, length: int) -> EpochPartition:
    """How this run's processes share an epoch."""
    train = cfg.TRAIN
    return EpochPartition(
        length,
        train.IMAGES_PER_GPU,
        context.rank,
        context.world,
        train.ACCUMULATE,
        cfg.SEED,
        train.SHUFFLE,
    )


def prepare_network(cfg: CfgNode, network: nn.Module, context: DistributedContext) -> nn.Module:
    """The network on the device in its memory layout, with batch statistics over all ranks where asked for and possible."""
    if cfg.MODEL.SYNC_BN and context.world > 1 and context.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    layout = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    return network.to(context.device, memory_format=layout)  # type: ignore[call-overload]


def wrap(cfg: CfgNode, network: nn.Module, context: DistributedContext) -> nn.Module:
    """The network as the loop calls it. Batch statistics are each rank's own; rank 0's are saved (see MODEL.SYNC_BN)."""
    called = torch.compile(network) if cfg.TRAIN.COMPILE else network
    if context.world == 1:
        return called  # type: ignore[return-value]
    devices = [context.device.index] if context.device.type == "cuda" else None
    return DistributedDataParallel(
        called, device_ids=devices, gradient_as_bucket_view=True, **OWN_BUFFERS
    )


def notices(cfg: CfgNode, context: DistributedContext, partition: EpochPartition) -> list[str]:
    """What the user should know before the first step."""
    found = []
    if cfg.MODEL.SYNC_BN and (context.world == 1 or context.device.type != "cuda"):
        found.append("notice: MODEL.SYNC_BN does nothing here: it needs more than one GPU process")
    if cfg.FP16.ENABLED and context.device.type == "cpu":
        found.append(
            f"notice: {cfg.FP16.DTYPE} on a CPU is for trying out; it is usually slower than FP16.ENABLED False"
        )
    total, recipe = partition.images_per_step, cfg.TRAIN.TOTAL_BATCH
    if recipe and recipe != total:
        found.append("notice: " + batch_advice(cfg, recipe, partition))
    return found


def batch_advice(cfg: CfgNode, recipe: int, partition: EpochPartition) -> str:
    """What to change where the images per step differ from those that the recipe was made for."""
    total = partition.images_per_step
    rate = linearly_scaled_rate(cfg.TRAIN.LR, recipe, total)
    sentence = (
        f"the recipe was made for {recipe} images a step, this run has {total} ({partition.batch} x {partition.world} processes"
        f" x ACCUMULATE {partition.accumulate}); use TRAIN.LR {rate:.4g} (scaled in proportion)"
    )
    if recipe % partition.global_batch == 0:
        sentence += (
            f", or keep TRAIN.LR and set TRAIN.ACCUMULATE {recipe // partition.global_batch}"
        )
    return sentence
