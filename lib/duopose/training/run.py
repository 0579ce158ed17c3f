"""A training process from its start to its exit code; every rank runs this."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import ExitCode
from duopose.distributed.stop import StopRequest
from duopose.errors import UserError, counted
from duopose.locks import FINISHED, STOPPED, FolderLock, torchrun_id
from duopose.run_folder import RunFolder
from duopose.runtime import configure_torch, preserve_rng_states, seed_everything
from duopose.training.batch_search import largest_shapes
from duopose.training.checkpoint import (
    Best,
    CheckpointContent,
    check_settings,
    checkpoint_to_resume,
    move_earlier_run,
    read_checkpoint,
)
from duopose.training.checkpoint_content import check_content
from duopose.training.dry_run import dry_run
from duopose.training.log import RunLog
from duopose.training.loop import format_position, train
from duopose.training.setup import (
    Components,
    ComponentsBuilder,
    TrainingRun,
    build_components,
    build_run,
    setting_notices,
    write_protocol,
)
from duopose.training.step import arrange_buckets
from duopose.training.wait_limit import WaitLimit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """The command line, apart from the settings."""

    config: str  # path of the yaml; names the run folder
    resume: str = ""  # a checkpoint or the folder of a run
    resume_anyway: bool = False
    dry_run: bool = False
    name: str = ""  # of the run; by default that of the yaml


def run_training(
    cfg: CfgNode,
    options: Options,
    context: DistributedContext,
    build: ComponentsBuilder = build_components,
) -> int:
    """Train to the end (ExitCode.DONE), or to a signal (ExitCode.STOPPED).

    UserError for mistakes in settings, data or weights.
    """
    configure_torch(cfg, context.local_world_size)
    seed_everything(cfg.SEED)  # the same initial weights on every rank
    folder = RunFolder.from_config(cfg, options.config, options.name)
    components = build(cfg, context, folder)

    if options.dry_run:
        lines = dry_run(cfg, components, context, folder)
        if context.is_main_process:
            logger.info("\n".join(lines))
        return ExitCode.DONE
    return _train_or_resume(cfg, options, context, folder, components)


def _train_or_resume(
    cfg: CfgNode,
    options: Options,
    context: DistributedContext,
    folder: RunFolder,
    components: Components,
) -> int:
    """Lock and prepare the run's folder, resume where asked, and train."""
    with _hold_folder(folder, context) as lock:
        prepared = None
        if lock is not None:
            prepared = prepare_folder(cfg, options, folder, lock)
        content, is_own, messages = context.broadcast_object(prepared)

        log = RunLog(folder, context, cfg.VERBOSE)
        with closing(log):
            run = build_run(cfg, components, context, folder, log)
            run.lock = lock
            seed_everything(cfg.SEED, context.rank)
            log_header(run, [*messages, *components.notices])
            if content is not None:
                resume(run, content, is_own)
            del prepared, content  # as large as weights and optimizer, for the whole run

            is_complete = _train_with_limits(run)

        if lock is not None:
            lock.end(FINISHED if is_complete else STOPPED)
        return ExitCode.DONE if is_complete else ExitCode.STOPPED


def _train_with_limits(run: TrainingRun) -> bool:
    """`train`, with signals handled and a limit on the time that images take."""
    stop = StopRequest(run.context)
    limit = WaitLimit(run.cfg.DATA_TIMEOUT, lambda: stop.signal_time)
    run.train_loader.wait_limit = limit
    with stop, closing(run.train_loader), limit:
        return train(run, stop)


@contextmanager
def _hold_folder(folder: RunFolder, context: DistributedContext) -> Iterator[FolderLock | None]:
    """Rank 0 holds the lock of the folder; the others have none."""
    if not context.is_main_process:
        yield None
        return
    with FolderLock(folder.lock).hold() as lock:
        yield lock


def is_own_checkpoint(folder: RunFolder, path: Path | None) -> bool:
    """Whether a checkpoint is of the run in this folder."""
    if path is None:
        return False
    return os.path.dirname(os.path.realpath(path)) == os.path.realpath(folder.root)


def prepare_folder(
    cfg: CfgNode,
    options: Options,
    folder: RunFolder,
    lock: FolderLock,
) -> tuple[CheckpointContent | None, bool, list[str]]:
    """Rank 0: read the checkpoint; move an earlier run aside, unless it goes on; write settings.

    Returns the content of the checkpoint, whether it is of this folder, and messages for the log.
    After a UserError the lock is as before: the folder still is what its last run has left.
    """
    run_id = torchrun_id()
    resume_path = checkpoint_to_resume(folder, options.resume, cfg.AUTO_RESUME, run_id)
    is_own = is_own_checkpoint(folder, resume_path)
    try:
        content, messages = _checkpoint_content(cfg, options, resume_path)
    except UserError:
        lock.restore()
        raise

    if not is_own:
        earlier = move_earlier_run(folder, lock)
        if earlier is not None:
            messages.append(
                f"this folder held an earlier run, now in {earlier}; to resume a run use "
                "AUTO_RESUME True"
            )
    folder.create(cfg)
    return content, is_own, messages


def _checkpoint_content(
    cfg: CfgNode, options: Options, resume_path: Path | None
) -> tuple[CheckpointContent | None, list[str]]:
    """The content of the checkpoint to resume, if there is one, and messages for the log."""
    content = None
    messages: list[str] = []
    if resume_path:
        loaded = read_checkpoint(resume_path)
        check_content(loaded.content, loaded.path)
        messages += loaded.notices
        messages += check_settings(cfg, loaded, options.resume_anyway)
        messages.append(f"resuming from {loaded.path}")
        content = loaded.content
    return content, messages


def resume(run: TrainingRun, content: CheckpointContent, is_own: bool) -> None:
    """Restore the state of a checkpoint.

    is_own: the checkpoint is in this run's folder; metrics.csv then loses what came after it.
    """
    if content["position"]["seen"] > run.partition.num_images:
        raise UserError(
            f"the checkpoint has used {content['position']['seen']} images of its epoch, "
            f"DATASET.TRAIN has {run.partition.num_images}; resume with the same data"
        )
    run.state.restore(content, run.context)
    if run.context.world_size > 2 and run.state.position.step:
        with preserve_rng_states():
            arrange_buckets(run.step, largest_shapes(run, run.cfg.TRAIN.IMAGES_PER_GPU))
    if not is_own:
        run.state.best = Best()  # the best weights so far are in the other folder
    elif run.context.is_main_process:
        run.log.metrics.truncate(content["metrics_csv_bytes"])

    before = len(content["ranks"])
    now = run.context.world_size
    if before != now:
        logger.info(
            "notice: the checkpoint was written by %d processes, now there are %d; the batch "
            "changes with it",
            before,
            now,
        )
    logger.info("resuming at %s", format_position(run))


def log_header(run: TrainingRun, messages: list[str]) -> None:
    """Rank 0: write protocol.json, log the size of the run and the messages."""
    if not run.context.is_main_process:
        return
    cfg = run.cfg
    write_protocol(cfg, run.components.skeleton, run.folder)

    partition = run.partition
    num_parameters = sum(parameter.numel() for parameter in run.state.network.parameters())
    logger.info(
        f"{cfg.MODEL.NAME}, {num_parameters:,} parameters, "
        f"on {run.context.world_size} x {run.context.device.type}; "
        f"{counted(partition.num_images, 'image')}, {partition.images_per_step} a step, "
        f"{counted(partition.num_steps(), 'step')} an epoch, "
        f"{counted(run.end_epoch, 'epoch')}; {run.folder.root}"
    )
    for message in messages:
        logger.info(message)
    for notice in setting_notices(cfg, run.context, partition):
        logger.warning(notice)
