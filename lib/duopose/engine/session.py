"""A training process from its start to its exit code; every rank runs this."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.engine.checkpoint import Content, read_checkpoint
from duopose.engine.distributed import Place, restarts
from duopose.engine.dry_run import dry_run
from duopose.engine.logging import RunLog
from duopose.engine.memory import keep_freed_memory, use_huge_pages
from duopose.engine.parts import Builder, build_parts
from duopose.engine.protocol import protocol
from duopose.engine.resume import checkpoint_to_resume, move_earlier_run, refuse_other_settings
from duopose.engine.run_folder import RunFolder, write_text
from duopose.engine.seed import seed_everything, set_kernels
from duopose.engine.setup import TrainingRun, build_run, notices
from duopose.engine.state import Best
from duopose.engine.stop import STOPPED, StopRequest
from duopose.engine.train import train, where

DONE = 0


@dataclass(frozen=True)
class Options:
    """What the command line says beside the settings."""

    config: str  # path of the yaml; names the run folder
    resume: str = ""  # a checkpoint or a run's folder
    resume_anyway: bool = False
    dry_run: bool = False


def run_training(cfg: CfgNode, options: Options, place: Place, build: Builder = build_parts) -> int:
    """Train to the end (0), or to the signal that stops it (3). UserError for what the user can mend."""
    set_kernels(cfg, place.local_world)
    if place.device.type == "cpu":
        keep_freed_memory()
        use_huge_pages()
    seed_everything(cfg.SEED)  # the same weights on every rank
    folder = RunFolder.of(cfg, options.config)
    parts = build(cfg, place, folder)
    if options.dry_run:
        lines = dry_run(cfg, parts, place, folder)
        print(*(lines if place.first else []), sep="\n", end="\n" if place.first else "", flush=True)
        return DONE
    resuming = checkpoint_to_resume(folder, options.resume, cfg.AUTO_RESUME, restarts() > 0)
    content, told = place.from_first(open_folder(cfg, options, folder, resuming) if place.first else None)
    log = RunLog(folder, place, cfg.VERBOSE)
    try:
        run = build_run(cfg, parts, place, folder, log)
        seed_everything(cfg.SEED, place.rank)
        greet(run, [*told, *parts.notices])
        if content is not None:
            take_over(run, content, same_folder=resuming is not None and resuming.resolve() == folder.checkpoint.resolve())
        with StopRequest(place) as stop, closing(run.feed):
            return DONE if train(run, stop) else STOPPED
    finally:
        log.close()


def open_folder(cfg: CfgNode, options: Options, folder: RunFolder, resuming: Path | None) -> tuple[Content | None, list[str]]:
    """What rank 0 does before the others may go on: read the checkpoint or clear the way, and what to tell about it."""
    content: Content | None = None
    told: list[str] = []
    if resuming:
        found = read_checkpoint(resuming)
        told = [*found.notices, *refuse_other_settings(cfg, found.content, found.path, options.resume_anyway)]
        told.append(f"resuming from {found.path}")
        content = found.content
    elif earlier := move_earlier_run(folder):
        told = [f"this folder held an earlier run, now in {earlier}; to go on with a run use AUTO_RESUME True"]
    folder.create(cfg)
    return content, told


def take_over(run: TrainingRun, content: Content, same_folder: bool) -> None:
    """Go on where the checkpoint was written; metrics.csv forgets what came after it."""
    run.state.restore(content, run.place)
    if not same_folder:
        run.state.best = Best()  # the best weights so far lie in the other folder
    elif run.place.first:
        run.log.metrics.cut_back(content["metrics_csv_bytes"])
    before, now = len(content["ranks"]), run.place.world
    if before != now:
        run.log.say(f"notice: the checkpoint was written by {before} processes, now there are {now}; the batch changes with it")
    run.log.say(f"going on at {where(run)}")


def greet(run: TrainingRun, told: list[str]) -> None:
    """Say what is about to happen."""
    shares, cfg = run.shares, run.cfg
    if run.place.first:
        write_text(run.folder.protocol, json.dumps(protocol(cfg), indent=1))
    weights = sum(parameter.numel() for parameter in run.state.network.parameters())
    run.log.say(
        f"{cfg.MODEL.NAME}, {weights:,} parameters, on {run.place.world} x {run.place.device.type}; {shares.length} pictures, "
        f"{shares.pictures_per_step} a step, {shares.num_steps()} steps an epoch, {cfg.TRAIN.END_EPOCH} epochs; {run.folder.root}"
    )
    for line in [*told, *notices(cfg, run.place, shares)]:
        run.log.say(line)
