"""The training loop, from the first step to the last."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from duopose.config import config_text
from duopose.distributed.stop import StopRequest
from duopose.network import save_model
from duopose.runtime import preserve_rng_states
from duopose.training.checkpoint import write_checkpoint
from duopose.training.finite import FiniteCheck
from duopose.training.log import data_wait_advice, format_duration, log_line
from duopose.training.setup import TrainingRun
from duopose.types import Batch, LossTerms
from duopose.visualize.curves import plot_curves

SAVE_PAUSE = 10.0  # seconds; epochs that are shorter do not each end with a checkpoint


def train(run: TrainingRun, stop: StopRequest) -> bool:
    """All epochs that are left; False where the run was asked to stop, with its state saved."""
    position, end = run.state.position, run.cfg.TRAIN.END_EPOCH
    if position.validation_due and run.components.validate is None:
        position.validation_due = False
        run.log.info(
            "notice: the validation that the checkpoint was waiting for is left out, TRAIN.VAL_EVERY is 0"
        )
    if position.validation_due:
        finish_validation(run)
    while position.epoch < end:
        if not train_epoch(run, stop):
            save(run)
            signals = " and ".join(
                sorted(set(filter(None, run.context.all_gather_object(stop.asked))))
            )
            run.log.info(
                f"stopped by {signals} at {where(run)}; everything is saved, go on with AUTO_RESUME True"
            )
            return False
        finish_epoch(run)
    save_weights(run, "final", {"epoch": position.epoch})
    say_where_things_are(run)
    return True


def say_where_things_are(run: TrainingRun) -> None:
    """At the end: the curves as an image, and how to go on."""
    if not run.context.is_main_process:
        return
    if run.folder.metrics_csv.is_file():
        plot_curves(run.folder.metrics_csv, run.folder.curves, title=str(run.folder.root))
    if run.state.best.epoch > 0:
        run.log.info(
            f"the best weights are of epoch {run.state.best.epoch} ({run.state.best.score:.3f}): {run.folder.model_best}"
        )
    run.log.info(
        f"done; weights: {run.folder.model_final}, curves: {run.folder.curves}; score them with tools/valid.py and the same words"
    )


def train_epoch(run: TrainingRun, stop: StopRequest) -> bool:
    """The steps of the current epoch that are left; False where the run was asked to stop."""
    position, cfg = run.state.position, run.cfg
    run.state.network.train()
    steps = run.partition.num_steps(position.seen)
    run.log.begin_epoch(
        f"epoch {position.epoch + 1}/{cfg.TRAIN.END_EPOCH}",
        run.partition.num_steps(),
        run.partition.num_steps() - steps,
    )
    run.speed.start()
    for batches in run.train_loader.steps(position.epoch, position.seen):
        stop.ask()
        take_step(run, batches)
        if position.step % cfg.PRINT_FREQ == 0:
            report(run, cfg.PRINT_FREQ)
        if stop.answer():
            run.log.end_epoch()
            return False
        if cfg.TRAIN.CHECKPOINT_EVERY and position.step % cfg.TRAIN.CHECKPOINT_EVERY == 0:
            run.speed.pause()
            save(run)
            run.speed.start()
    run.speed.pause()
    run.log.end_epoch()
    return True


def take_step(run: TrainingRun, batches: list[Batch]) -> None:
    """One update from the mean gradient over the images of all batches and ranks."""
    state, position = run.state, run.state.position
    run.rate = run.schedule.apply(state.optimizer, progress(run), position.step)
    for number, (batch, weight) in enumerate(
        zip(batches, run.partition.step_weights(position.seen), strict=True), start=1
    ):
        with no_grad_sync(run, until_last=number < len(batches)):
            terms = loss_of(run, batch)
            check = FiniteCheck(terms)
            state.precision.backward(terms.total * weight)
        check.confirm(batch.image_ids, where(run))
        state.meter.add(terms, counts=weight > 0)
    state.precision.step(state.optimizer, state.network)
    if state.averaged:
        state.averaged.update(state.network, position.step)
    position.seen = min(position.seen + run.partition.images_per_step, run.partition.length)
    position.step += 1
    run.log.advance()


def loss_of(run: TrainingRun, batch: Batch) -> LossTerms:
    """Network and losses on a batch of the device; only the network runs in mixed precision."""
    layout = torch.channels_last if run.cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    images = run.components.normalise(batch.images).contiguous(memory_format=layout)
    with run.state.precision.autocast():
        output = run.forward(images)
    return run.components.loss(output, run.components.targets(batch))


def no_grad_sync(run: TrainingRun, until_last: bool) -> AbstractContextManager[object]:
    """For all but the last batch of a step: add gradients up on each rank, exchange them once."""
    if until_last and isinstance(run.forward, DistributedDataParallel):
        return run.forward.no_sync()
    return nullcontext()


def finish_epoch(run: TrainingRun) -> None:
    """Count the epoch, save and validate where it is due; a run killed while validating goes on with the validation."""
    position, cfg = run.state.position, run.cfg
    position.epoch, position.seen = position.epoch + 1, 0
    due = cfg.TRAIN.VAL_EVERY and (
        position.epoch % cfg.TRAIN.VAL_EVERY == 0 or position.epoch == cfg.TRAIN.END_EPOCH
    )
    position.validation_due = bool(due and run.components.validate)
    last = position.epoch == cfg.TRAIN.END_EPOCH
    if (
        position.validation_due
        or last
        or run.context.broadcast_object(time.monotonic() - run.last_save > SAVE_PAUSE)
    ):
        save(run)
    if position.validation_due:
        finish_validation(run)


def finish_validation(run: TrainingRun) -> None:
    """Score the weights, keep them if they are the best so far, and note that it is done."""
    state, position = run.state, run.state.position
    assert run.components.validate is not None
    run.context.broadcast_tensors(
        state.result.buffers()
    )  # batch statistics are each rank's own; rank 0's are the run's
    with preserve_rng_states():
        scores = run.components.validate(state.result)
    if scores is not None:
        run.log.log_scalars(position.step, progress(run), "val", scores.values)
        run.log.info(
            f"epoch {position.epoch}: "
            + "  ".join(f"{name} {value:.3f}" for name, value in scores.values.items())
        )
        for note in scores.notes:
            run.log.info(f"  {note}")
        if scores.main > state.best.score:
            state.best.score, state.best.epoch = scores.main, position.epoch
            save_weights(run, "best", {"epoch": position.epoch, "scores": dict(scores.values)})
            run.log.info(f"  the best so far: {run.folder.model_best}")
    position.validation_due = False
    save(run)


def save(run: TrainingRun) -> None:
    """Write the checkpoint; all ranks must call it."""
    content = run.state.content(run.context)
    if run.context.is_main_process:
        content |= {
            "config": config_text(run.cfg),
            "skeleton": dict(run.components.skeleton),
            "metrics_csv_bytes": run.log.metrics.size(),
        }
        write_checkpoint(content, run.folder.checkpoint)
    run.last_save = time.monotonic()
    run.context.barrier()


def save_weights(run: TrainingRun, which: str, extra: dict[str, object]) -> None:
    """model_best.pth or model_final.pth: the weights with all that is needed to use them."""
    if run.context.is_main_process:
        path = {"best": run.folder.model_best, "final": run.folder.model_final}[which]
        save_model(
            path,
            run.state.result.state_dict(),
            config_text(run.cfg),
            run.components.skeleton,
            extra,
        )


def report(run: TrainingRun, steps: int) -> None:
    """One log line about the last `steps` steps; the only place where a step waits for the device."""
    position, cfg = run.state.position, run.cfg
    terms = run.state.meter.read(run.context)
    speed = run.speed.read(steps, run.train_loader.waited)
    values = {**terms, "learning_rate": run.rate, **run.state.precision.read(), **speed}
    run.log.log_scalars(position.step, progress(run), "train", values)
    left = (
        (cfg.TRAIN.END_EPOCH - position.epoch) * run.partition.num_steps()
        - run.partition.num_steps()
        + run.partition.num_steps(position.seen)
    )
    run.log.info(
        f"{where(run)}  {log_line(values)}{memory(run)}  ETA {format_duration(run.speed.seconds_left(left))}"
    )
    skipped = run.state.precision.advice(values.get("skipped_steps", 0), steps)
    run.log.warn_once(position.epoch, "steps", skipped)
    run.log.warn_once(position.epoch, "data", data_wait_advice(cfg, speed["data_share"]))


def memory(run: TrainingRun) -> str:
    """The GPU's peak so far, for the log line."""
    if run.context.device.type != "cuda":
        return ""
    return f"  memory {torch.cuda.max_memory_allocated(run.context.device) / 2**30:.1f} GiB"


def progress(run: TrainingRun) -> float:
    """Epochs done, with fraction."""
    return run.state.position.epoch + run.state.position.seen / run.partition.length


def where(run: TrainingRun) -> str:
    """'epoch 3/300, step 1207' for people: epochs count from 1, steps are updates since the start of the run."""
    position = run.state.position
    return f"epoch {position.epoch + 1}/{run.cfg.TRAIN.END_EPOCH}, step {position.step}"
