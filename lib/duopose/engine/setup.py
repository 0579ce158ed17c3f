"""Putting a run together: network on its device, optimizer, precision, data; what is only a wish becomes a notice."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from duopose.engine.distributed import Place
from duopose.engine.feed import Feed
from duopose.engine.logging import Pace, RunLog
from duopose.engine.optim import AveragedWeights, Schedule, build_optimizer, linearly_scaled_rate
from duopose.engine.parts import Parts
from duopose.engine.precision import Precision
from duopose.engine.run_folder import RunFolder
from duopose.engine.sampler import Shares
from duopose.engine.state import TrainState
from duopose.errors import UserError

_NAMES = signature(DistributedDataParallel).parameters
_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"  # renamed in torch 2.13
OWN_BUFFERS: dict[str, Any] = {_BUFFERS: False}


@dataclass
class TrainingRun:
    """All objects of a run; `train.train` drives it."""

    cfg: CfgNode
    parts: Parts
    place: Place
    folder: RunFolder
    log: RunLog
    shares: Shares
    feed: Feed
    state: TrainState
    forward: nn.Module  # the network as wrapped for several processes and compilation; shares its weights
    schedule: Schedule
    pace: Pace
    rate: float = 0.0  # learning rate of the last step
    last_save: float = float("-inf")  # when the last checkpoint was written, by time.monotonic


def build_run(cfg: CfgNode, parts: Parts, place: Place, folder: RunFolder, log: RunLog) -> TrainingRun:
    """Everything on its device. UserError where the settings cannot work on this data or machine."""
    if not len(parts.dataset):
        raise UserError(f"there is nothing to train on: DATASET.TRAIN '{cfg.DATASET.TRAIN}' has no pictures")
    shares = build_shares(cfg, place, len(parts.dataset))
    network = prepare_network(cfg, parts.network, place)
    averaged = AveragedWeights(network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
    state = TrainState(network, build_optimizer(cfg, network), Precision.of(cfg, place.device), averaged)
    state.position.epoch = cfg.TRAIN.BEGIN_EPOCH
    feed = Feed(parts.dataset, parts.collate, shares, place.device, cfg.WORKERS, cfg.TRAIN.END_EPOCH)
    schedule, pace = Schedule.of(cfg), Pace(shares.pictures_per_step)
    return TrainingRun(cfg, parts, place, folder, log, shares, feed, state, wrap(cfg, network, place), schedule, pace)


def build_shares(cfg: CfgNode, place: Place, length: int) -> Shares:
    """How this run's processes share an epoch."""
    train = cfg.TRAIN
    return Shares(length, train.IMAGES_PER_GPU, place.rank, place.world, train.ACCUMULATE, cfg.SEED, train.SHUFFLE)


def prepare_network(cfg: CfgNode, network: nn.Module, place: Place) -> nn.Module:
    """The network on the device in its memory layout, with batch statistics over all ranks where asked for and possible."""
    if cfg.MODEL.SYNC_BN and place.world > 1 and place.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    layout = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    return network.to(place.device, memory_format=layout)  # type: ignore[call-overload]


def wrap(cfg: CfgNode, network: nn.Module, place: Place) -> nn.Module:
    """The network as the loop calls it. Batch statistics are each rank's own; rank 0's are saved (see MODEL.SYNC_BN)."""
    called = torch.compile(network) if cfg.TRAIN.COMPILE else network
    if place.world == 1:
        return called  # type: ignore[return-value]
    devices = [place.device.index] if place.device.type == "cuda" else None
    return DistributedDataParallel(called, device_ids=devices, gradient_as_bucket_view=True, **OWN_BUFFERS)


def notices(cfg: CfgNode, place: Place, shares: Shares) -> list[str]:
    """What the user should know before the first step."""
    found = []
    if cfg.MODEL.SYNC_BN and (place.world == 1 or place.device.type != "cuda"):
        found.append("notice: MODEL.SYNC_BN does nothing here: it needs more than one GPU process")
    if cfg.FP16.ENABLED and place.device.type == "cpu":
        found.append(f"notice: {cfg.FP16.DTYPE} on a CPU is for trying out; it is usually slower than FP16.ENABLED False")
    total, recipe = shares.pictures_per_step, cfg.TRAIN.TOTAL_BATCH
    if recipe and recipe != total:
        found.append("notice: " + batch_advice(cfg, recipe, shares))
    return found


def batch_advice(cfg: CfgNode, recipe: int, shares: Shares) -> str:
    """What to change where the pictures per step differ from those that the recipe was made for."""
    total = shares.pictures_per_step
    rate = linearly_scaled_rate(cfg.TRAIN.LR, recipe, total)
    sentence = (
        f"the recipe was made for {recipe} pictures a step, this run has {total} ({shares.batch} x {shares.world} processes"
        f" x ACCUMULATE {shares.accumulate}); use TRAIN.LR {rate:.4g} (scaled in proportion)"
    )
    if recipe % shares.global_batch == 0:
        sentence += f", or keep TRAIN.LR and set TRAIN.ACCUMULATE {recipe // shares.global_batch}"
    return sentence
