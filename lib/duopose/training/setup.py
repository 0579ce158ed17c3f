"""Builds all objects of a training run from the settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.calibration.calibrate_file import calibrate_file
from duopose.config import build_skeleton
from duopose.datasets import build_dataset
from duopose.datasets.loader import KeyedDataset, collate
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.distributed.sync_batch_norm import convert_batch_norm
from duopose.errors import UserError, counted
from duopose.files import write_atomically
from duopose.inference.evaluation import check_test_split, evaluate_split
from duopose.inference.predictor import Predictor
from duopose.inference.protocol import training_protocol
from duopose.locks import FolderLock
from duopose.losses import build_criterion
from duopose.network import build_network, load_weights
from duopose.run_folder import RunFolder
from duopose.skeletons import Skeleton, skeleton_to_dict
from duopose.targets import build_targets
from duopose.training.checkpoint import TrainState
from duopose.training.compiled_network import CompiledNetwork
from duopose.training.log import RunLog, SpeedMeter
from duopose.training.optim import (
    AveragedWeights,
    LearningRateSchedule,
    build_optimizer,
    linearly_scaled_rate,
)
from duopose.training.precision import Precision
from duopose.training.step import ComputeLosses, MakeTargets, Normalise, TrainingStep
from duopose.training.train_loader import Collate, EpochPartition, TrainLoader

# DistributedDataParallel's option for the buffers was renamed in torch 2.13.
_DDP_OPTIONS = signature(DistributedDataParallel).parameters
_BUFFER_OPTION = (
    "forward_sync_buffers" if "forward_sync_buffers" in _DDP_OPTIONS else "broadcast_buffers"
)


@dataclass(frozen=True)
class Scores:
    """The metrics of a validation; `main` (AP) decides which weights are the best."""

    main: float
    values: Mapping[str, float]
    notes: tuple[str, ...] = ()


Validate = Callable[[nn.Module], Scores | None]


@dataclass(frozen=True)
class Components:
    """What the settings decide and the training loop only calls; tests use small substitutes.

    calibrate: called on rank 0 with each model file at the end; None where TRAIN.CALIBRATE is off.
    validate: called on all ranks, None on ranks other than 0; None where there is no validation.
    skeleton: as `skeleton_to_dict` returns it, for model files.
    notices: for the beginning of the log.
    """

    network: nn.Module  # on the CPU
    dataset: KeyedDataset
    collate: Collate
    normalise: Normalise
    make_targets: MakeTargets
    criterion: ComputeLosses
    validate: Validate | None = None
    calibrate: CalibrateFile | None = None
    skeleton: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


CalibrateFile = Callable[[Path], str]
# Images at the end of a training to fit a calibration, and to compare it. AP of the demo network
# after fits on 50, 100, 300 training images: 60.6, 61.5, 62.4 (200 validation images).
CALIBRATION_IMAGES = 300
COMPARISON_IMAGES = 50

ComponentsBuilder = Callable[[CfgNode, DistributedContext, RunFolder], Components]


def build_components(cfg: CfgNode, context: DistributedContext, folder: RunFolder) -> Components:
    """The components of MODEL.NAME on DATASET.TRAIN.

    Data and weights are opened here, so that mistakes show before the first step. Rank 0 also looks
    for each image file, and whether the validation split can be scored.
    """
    skeleton = build_skeleton(cfg)
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TRAIN, train=True)
    notices = [dataset.notice]
    if context.is_main_process:
        notices.append(dataset.check_files())
        if cfg.TRAIN.VAL_EVERY:
            notices.append(check_test_split(cfg, skeleton))

    network = build_network(cfg, skeleton)
    if cfg.MODEL.PRETRAINED:
        report = load_weights(network, cfg.MODEL.PRETRAINED)
        notices.append(str(report))

    validate = None
    if cfg.TRAIN.VAL_EVERY:
        validate = _build_validate(cfg, skeleton, context, folder)

    return Components(
        network=network,
        dataset=dataset,
        collate=collate,
        normalise=normalise,
        make_targets=build_targets(cfg, skeleton),
        criterion=build_criterion(cfg, skeleton),
        validate=validate,
        calibrate=_build_calibrate(cfg, skeleton, context) if cfg.TRAIN.CALIBRATE else None,
        skeleton=skeleton_to_dict(skeleton),
        notices=tuple(notice for notice in notices if notice),
    )


def _build_validate(
    cfg: CfgNode, skeleton: Skeleton, context: DistributedContext, folder: RunFolder
) -> Validate:
    """Validation on DATASET.TEST, with the results in the run's folder."""
    results_folder = folder.results / "training"

    def score(network: nn.Module) -> Scores | None:
        predictor = Predictor.from_config(cfg, network, skeleton, context.device)
        metrics = evaluate_split(predictor, cfg, skeleton, context, results_folder).metrics
        if metrics is None:
            return None
        values = {name: value for name, value in metrics.values.items() if value is not None}
        return Scores(metrics.main, values, metrics.notes)

    return score


def _build_calibrate(
    cfg: CfgNode, skeleton: Skeleton, context: DistributedContext
) -> CalibrateFile:
    """Calibration of a model file on a small part of DATASET.TRAIN; returns a message."""

    def calibrate(path: Path) -> str:
        try:
            run = calibrate_file(
                path, cfg, skeleton, context.device, CALIBRATION_IMAGES, COMPARISON_IMAGES
            )
        except UserError as error:
            return f"notice: {path} is not calibrated: {error}"
        held_out = counted(run.num_held_out, "held-out training image")
        return f"calibrated {path}; {held_out}:\n{run.table()}"

    return calibrate


@dataclass
class TrainingRun:
    """All objects of a run; `loop.train` drives it."""

    cfg: CfgNode
    components: Components
    context: DistributedContext
    folder: RunFolder
    log: RunLog
    partition: EpochPartition
    train_loader: TrainLoader
    state: TrainState
    step: TrainingStep
    schedule: LearningRateSchedule
    speed: SpeedMeter
    end_epoch: int  # number of epochs; with TRAIN.END_STEP the last one may be shorter
    learning_rate: float = 0.0  # of the last step
    last_save: float = float("-inf")  # time.monotonic() of the last checkpoint
    steps_since_log: int = 0  # since the last log line of this process
    lock: FolderLock | None = None  # of the run's folder, on rank 0


def build_run(
    cfg: CfgNode,
    components: Components,
    context: DistributedContext,
    folder: RunFolder,
    log: RunLog,
) -> TrainingRun:
    """All objects of the run, on its device.

    UserError where the settings cannot work with this data or machine.
    """
    num_images = len(components.dataset)
    if not num_images:
        raise UserError(
            f"there is nothing to train on: DATASET.TRAIN '{cfg.DATASET.TRAIN}' has no images"
        )
    partition = build_partition(cfg, context, num_images)
    end = end_of_training(cfg, partition)
    end_epoch = math.ceil(end)
    loader = TrainLoader(
        components.dataset,
        components.collate,
        partition,
        context.device,
        cfg.WORKERS,
        end_epoch,
    )
    state = build_state(cfg, components.network, context)
    return TrainingRun(
        cfg=cfg,
        components=components,
        context=context,
        folder=folder,
        log=log,
        partition=partition,
        train_loader=loader,
        state=state,
        step=build_step(cfg, components, state, context),
        schedule=LearningRateSchedule.from_config(cfg, end),
        speed=SpeedMeter(partition.images_per_step),
        end_epoch=end_epoch,
    )


def end_of_training(cfg: CfgNode, partition: EpochPartition) -> float:
    """The end of the run in epochs, from TRAIN.END_STEP or, where it is 0, TRAIN.END_EPOCH."""
    if not cfg.TRAIN.END_STEP:
        return float(cfg.TRAIN.END_EPOCH)
    epochs: float = cfg.TRAIN.END_STEP / partition.num_steps()
    return cfg.TRAIN.BEGIN_EPOCH + epochs


def build_partition(cfg: CfgNode, context: DistributedContext, num_images: int) -> EpochPartition:
    """How the processes of this run divide an epoch."""
    return EpochPartition(
        num_images=num_images,
        batch_size=cfg.TRAIN.IMAGES_PER_GPU,
        rank=context.rank,
        world_size=context.world_size,
        accumulate=cfg.TRAIN.ACCUMULATE,
        seed=cfg.SEED,
        shuffle=cfg.TRAIN.SHUFFLE,
    )


def build_state(cfg: CfgNode, network: nn.Module, context: DistributedContext) -> TrainState:
    """Network on its device and in its memory format, optimizer, precision, averaged weights."""
    if cfg.MODEL.SYNC_BN and _is_multi_gpu(context):
        network = convert_batch_norm(network)
    network = network.to(context.device, memory_format=memory_format(cfg))  # type: ignore[call-overload]

    averaged = AveragedWeights(network, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
    optimizer = build_optimizer(cfg, network)
    precision = Precision.from_config(cfg, context.device)
    state = TrainState(network, optimizer, precision, averaged)
    state.position.epoch = cfg.TRAIN.BEGIN_EPOCH
    return state


def build_step(
    cfg: CfgNode, components: Components, state: TrainState, context: DistributedContext
) -> TrainingStep:
    """The training step, with the network compiled and wrapped for several ranks where asked."""
    return TrainingStep(
        model=wrap_network(cfg, state.network, context),
        network=state.network,
        normalise=components.normalise,
        make_targets=components.make_targets,
        criterion=components.criterion,
        optimizer=state.optimizer,
        precision=state.precision,
        memory_format=memory_format(cfg),
    )


def memory_format(cfg: CfgNode) -> torch.memory_format:
    """The memory format of images and weights."""
    return torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format


def wrap_network(cfg: CfgNode, network: nn.Module, context: DistributedContext) -> nn.Module:
    """The network as it is called: compiled, and with gradients summed over the ranks.

    Batch statistics stay each rank's own and rank 0's are saved, unless MODEL.SYNC_BN.
    """
    model = network
    if cfg.TRAIN.COMPILE:
        model = CompiledNetwork(network, cfg.TRAIN.IMAGES_PER_GPU)
    if context.world_size == 1:
        return model

    device_ids = [context.device.index] if context.device.type == "cuda" else None
    options: dict[str, Any] = {_BUFFER_OPTION: False}
    return DistributedDataParallel(
        model, device_ids=device_ids, gradient_as_bucket_view=True, **options
    )


def write_protocol(cfg: CfgNode, skeleton: Mapping[str, Any], folder: RunFolder) -> None:
    """Write protocol.json of a training."""
    text = json.dumps(training_protocol(cfg, skeleton), indent=1)
    write_atomically(folder.protocol, text.encode())


def setting_notices(
    cfg: CfgNode, context: DistributedContext, partition: EpochPartition
) -> list[str]:
    """Settings without effect here, and settings that do not fit together."""
    notices = []
    if cfg.MODEL.SYNC_BN and not _is_multi_gpu(context):
        notices.append("MODEL.SYNC_BN has no effect here: it needs more than one GPU process")
    if cfg.MODEL.SYNC_BN and cfg.TRAIN.COMPILE and _is_multi_gpu(context):
        notices.append(
            "TRAIN.COMPILE gains little with MODEL.SYNC_BN: at each normalisation the ranks "
            "exchange statistics, which cannot be compiled; one of the two is enough"
        )
    if cfg.FP16.ENABLED and context.device.type == "cpu":
        notices.append(
            f"{cfg.FP16.DTYPE} on a CPU is for trying out; it is usually slower than "
            "FP16.ENABLED False"
        )
    if scale_notice := Precision.from_config(cfg, context.device).scale_notice():
        notices.append(scale_notice)
    if batch_advice := total_batch_advice(cfg, partition):
        notices.append(batch_advice)
    epochs = end_of_training(cfg, partition) - cfg.TRAIN.BEGIN_EPOCH
    num_steps = round(epochs * partition.num_steps())
    if num_steps <= cfg.TRAIN.WARMUP:
        notices.append(
            f"TRAIN.WARMUP {cfg.TRAIN.WARMUP} is not over when the training ends after "
            f"{counted(num_steps, 'step')}: the learning rate never reaches TRAIN.LR; lower WARMUP "
            "or train longer. To overfit a few images as a test use experiments/sample/overfit.yaml"
        )
    return [f"notice: {notice}" for notice in notices]


def total_batch_advice(cfg: CfgNode, partition: EpochPartition) -> str:
    """What to change where the images per step are not TRAIN.TOTAL_BATCH; empty where they are."""
    recipe = cfg.TRAIN.TOTAL_BATCH
    total = partition.images_per_step
    if not recipe or recipe == total:
        return ""

    rate = linearly_scaled_rate(cfg.TRAIN.LR, recipe, total)
    advice = (
        f"the recipe was made for {counted(recipe, 'image')} a step, this run has {total} "
        f"({partition.batch_size} x {partition.world_size} processes "
        f"x ACCUMULATE {partition.accumulate}); use TRAIN.LR {rate:.4g} (scaled in proportion)"
    )
    if recipe % partition.global_batch_size == 0:
        accumulate = recipe // partition.global_batch_size
        advice += f", or keep TRAIN.LR and set TRAIN.ACCUMULATE {accumulate}"
    return advice


def _is_multi_gpu(context: DistributedContext) -> bool:
    return context.world_size > 1 and context.device.type == "cuda"
