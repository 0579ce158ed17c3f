"""A training process from its start to its exit code; every rank runs this."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext, restarts
from duopose.distributed.stop import STOPPED, StopRequest
from duopose.files import write_atomically
from duopose.inference.protocol import protocol
from duopose.run_folder import RunFolder
from duopose.runtime import configure_torch, seed_everything
from duopose.training.checkpoint import Content, read_checkpoint
from duopose.training.components import ComponentsBuilder, build_components
from duopose.training.dry_run import dry_run
from duopose.training.log import RunLog
from duopose.training.loop import train, where
from duopose.training.memory import keep_freed_memory, use_huge_pages
from duopose.training.resume import checkpoint_to_resume, move_earlier_run, refuse_other_settings
from duopose.training.setup import TrainingRun, build_run, notices
from duopose.training.state import Best

DONE = 0


@dataclass(frozen=True)
class Options:
    """What the command line says beside the settings."""

    config: str  # path of the yaml; names the run folder
    resume: str = ""  # a checkpoint or a run's folder
    resume_anyway: bool = False
    dry_run: bool = False


def run_training(
    cfg: CfgNode,
    options: Options,
    context: DistributedContext,
    build: ComponentsBuilder = build_components,
) -> int:
    """Train to the end (0), or to the signal that stops it (3). UserError for what the user can mend."""
    configure_torch(cfg, context.local_world)
    if context.device.type == "cpu":
        keep_freed_memory()
        use_huge_pages()
    seed_everything(cfg.SEED)  # the same weights on every rank
    folder = RunFolder.from_config(cfg, options.config)
    components = build(cfg, context, folder)
    if options.dry_run:
        lines = dry_run(cfg, components, context, folder)
        print(
            *(lines if context.is_main_process else []),
            sep="\n",
            end="\n" if context.is_main_process else "",
            flush=True,
        )
        return DONE
    resuming = checkpoint_to_resume(folder, options.resume, cfg.AUTO_RESUME, restarts() > 0)
    content, messages = context.broadcast_object(
        open_folder(cfg, options, folder, resuming) if context.is_main_process else None
    )
    log = RunLog(folder, context, cfg.VERBOSE)
    try:
        run = build_run(cfg, components, context, folder, log)
        seed_everything(cfg.SEED, context.rank)
        log_header(run, [*messages, *components.notices])
        if content is not None:
            take_over(
                run,
                content,
                same_folder=resuming is not None
                and resuming.resolve() == folder.checkpoint.resolve(),
            )
        with StopRequest(context) as stop, closing(run.train_loader):
            return DONE if train(run, stop) else STOPPED
    finally:
        log.close()


def open_folder(
    cfg: CfgNode, options: Options, folder: RunFolder, resuming: Path | None
) -> tuple[Content | None, list[str]]:
    """What rank 0 does before the others may go on: read the checkpoint or clear the way, and what to tell about it."""
    content: Content | None = None
    messages: list[str] = []
    if resuming:
        found = read_checkpoint(resuming)
        messages = [
            *found.notices,
            *refuse_other_settings(cfg, found.content, found.path, options.resume_anyway),
        ]
        messages.append(f"resuming from {found.path}")
        content = found.content
    elif earlier := move_earlier_run(folder):
        messages = [
            f"this folder held an earlier run, now in {earlier}; to go on with a run use AUTO_RESUME True"
        ]
    folder.create(cfg)
    return content, messages


def take_over(run: TrainingRun, content: Content, same_folder: bool) -> None:
    """Go on where the checkpoint was written; metrics.csv forgets what came after it."""
    run.state.restore(content, run.context)
    if not same_folder:
        run.state.best = Best()  # the best weights so far lie in the other folder
    elif run.context.is_main_process:
        run.log.metrics.cut_back(content["metrics_csv_bytes"])
    before, now = len(content["ranks"]), run.context.world
    if before != now:
        run.log.info(
            f"notice: the checkpoint was written by {before} processes, now there are {now}; the batch changes with it"
        )
    run.log.info(f"going on at {where(run)}")


def log_header(run: TrainingRun, messages: list[str]) -> None:
    """Say what is about to happen."""
    partition, cfg = run.partition, run.cfg
    if run.context.is_main_process:
        text = json.dumps(protocol(cfg), indent=1)
        write_atomically(run.folder.protocol, text.encode())
    weights = sum(parameter.numel() for parameter in run.state.network.parameters())
    run.log.info(
        f"{cfg.MODEL.NAME}, {weights:,} parameters, on {run.context.world} x {run.context.device.type}; {partition.length} images, "
        f"{partition.images_per_step} a step, {partition.num_steps()} steps an epoch, {cfg.TRAIN.END_EPOCH} epochs; {run.folder.root}"
    )
    for line in [*messages, *notices(cfg, run.context, partition)]:
        run.log.info(line)
