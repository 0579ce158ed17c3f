"""The training loop, from the first step to the last.

for each epoch:
    for each step: update, average the weights, log every PRINT_FREQ steps
    save a checkpoint, validate every VAL_EVERY epochs, keep the best weights
save the final weights
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import islice

import torch

from duopose.config import config_text
from duopose.distributed.stop import StopRequest
from duopose.errors import NotFiniteError, UserError
from duopose.locks import torchrun_id
from duopose.losses.criterion import Criterion
from duopose.network import save_model
from duopose.network.pose_net import PoseNet
from duopose.runtime import preserve_rng_states
from duopose.training.checkpoint import write_checkpoint
from duopose.training.finite import check_finite
from duopose.training.gradient_norms import gradient_norms
from duopose.training.log import data_wait_notice, format_duration, format_values
from duopose.training.setup import TrainingRun, write_protocol
from duopose.training.wait_limit import StoppedWhileWaiting
from duopose.types import Batch
from duopose.visualize.curves import plot_curves

MIN_SAVE_INTERVAL = 10.0  # seconds; shorter epochs do not each end with a checkpoint
logger = logging.getLogger(__name__)


def train(run: TrainingRun, stop: StopRequest) -> bool:
    """Train the epochs that are left; False where a signal stopped the run (it is saved)."""
    position = run.state.position
    if position.validation_due:
        validate_or_skip(run)

    while position.epoch < run.end_epoch:
        is_complete = train_epoch(run, stop)
        if not is_complete:
            save_checkpoint(run)
            log_stop(run, stop)
            return False
        finish_epoch(run)

    save_weights(run, "final", {"epoch": position.epoch})
    calibrate(run)
    log_results(run)
    return True


def calibrate(run: TrainingRun) -> None:
    """Put calibrations into the model files; rank 0 works, the others wait."""
    calibrate_file = run.components.calibrate
    if calibrate_file is not None and run.context.is_main_process:
        for path in (run.folder.model_best, run.folder.model_final):
            if path.is_file():
                logger.info(calibrate_file(path))
    run.context.barrier()


def train_epoch(run: TrainingRun, stop: StopRequest) -> bool:
    """Make the steps that are left in the current epoch; False where a signal stopped the run."""
    position = run.state.position
    cfg = run.cfg
    run.state.network.train()

    num_steps = run.partition.num_steps()
    steps_done = num_steps - run.partition.num_steps(position.seen)
    run.log.begin_epoch(f"epoch {position.epoch + 1}/{run.end_epoch}", num_steps, steps_done)
    run.speed.resume()
    for batches in batches_until_stop(run):
        stop.start_all_reduce()
        train_step(run, batches)
        if position.step % cfg.PRINT_FREQ == 0:
            log_progress(run)
            log_gradients(run, batches[-1])
        if stop.should_stop():
            run.log.end_epoch()
            return False

        if cfg.TRAIN.CHECKPOINT_EVERY and position.step % cfg.TRAIN.CHECKPOINT_EVERY == 0:
            run.speed.pause()
            save_checkpoint(run)
            run.speed.resume()

    if stop.signal_name and steps_left_in_epoch(run):  # no images came for the next step
        run.log.end_epoch()
        return False
    if needs_log_line(run):
        log_progress(run)
    run.speed.pause()
    run.log.end_epoch()
    return True


def batches_until_stop(run: TrainingRun) -> Iterator[list[Batch]]:
    """The batches of each step in the rest of the epoch.

    It ends early where images do not come any more after a signal to stop. With several ranks this
    is a UserError: the others wait for the gradients of this one, and nothing can be saved.
    """
    position = run.state.position
    steps = run.train_loader.steps(position.epoch, position.seen)
    try:
        yield from islice(steps, steps_left_in_epoch(run))
    except StoppedWhileWaiting as error:
        if run.context.world_size > 1:
            raise UserError(str(error)) from error


def needs_log_line(run: TrainingRun) -> bool:
    """At the end of an epoch: whether it has had no log line, or the last steps of the run none.

    It follows from the position alone, so that a resumed run writes the same lines.
    """
    step = run.state.position.step
    frequency = run.cfg.PRINT_FREQ
    if step % frequency == 0:
        return False
    first_step = step - run.partition.num_steps()
    had_line = step // frequency > first_step // frequency
    return not had_line or steps_left(run) == 0


def train_step(run: TrainingRun, batches: list[Batch]) -> None:
    """One update, the mean over the images of all batches and ranks, and its bookkeeping."""
    state = run.state
    position = state.position
    run.learning_rate = run.schedule.apply(state.optimizer, progress(run), position.step)

    for batch in batches:
        state.skipped.add(batch.skipped)
    weights = run.partition.step_weights(position.seen)
    terms_of_batches = run.step(batches, weights, format_position(run))
    for terms, weight in zip(terms_of_batches, weights, strict=True):
        state.meter.add(terms, counts=weight > 0)
    if state.averaged:
        state.averaged.update(state.network, position.step)

    images_seen = position.seen + run.partition.images_per_step
    position.seen = min(images_seen, run.partition.num_images)
    position.step += 1
    run.steps_since_log += 1
    run.log.advance(state.meter)


def finish_epoch(run: TrainingRun) -> None:
    """Count the epoch, save a checkpoint, and validate where it is due.

    The checkpoint comes first: a run killed during the validation resumes with the validation.
    """
    position = run.state.position
    train_cfg = run.cfg.TRAIN
    position.epoch += 1
    position.seen = 0
    if run.cfg.DATASET.ON_BAD_SAMPLE == "skip":
        total = run.state.skipped.end_epoch(run.context)
        run.log.log_scalars(position.step, progress(run), "train", {"skipped_samples": total})

    is_last = position.epoch == run.end_epoch
    if train_cfg.VAL_EVERY and run.components.validate:
        position.validation_due = is_last or position.epoch % train_cfg.VAL_EVERY == 0

    seconds_since_save = run.context.broadcast_object(time.monotonic() - run.last_save)
    if position.validation_due or is_last or seconds_since_save > MIN_SAVE_INTERVAL:
        save_checkpoint(run)
    if position.validation_due:
        validate(run)


def validate_or_skip(run: TrainingRun) -> None:
    """Make the validation that was due when the checkpoint was written, if it is still wanted."""
    if run.components.validate is not None:
        validate(run)
        return
    run.state.position.validation_due = False
    logger.info("notice: the validation that was due is skipped, because TRAIN.VAL_EVERY is 0")


def validate(run: TrainingRun) -> None:
    """Score the weights, save them if they are the best so far, and save a checkpoint.

    Weights that are finite may have outputs that are not, above all at the beginning of a training.
    That is a notice: an error would come again with every AUTO_RESUME.
    """
    state = run.state
    assert run.components.validate is not None
    # Batch statistics differ between the ranks; those of rank 0 are validated and saved.
    run.context.broadcast_tensors(state.inference_network.buffers())
    scores = None
    try:
        with preserve_rng_states():
            scores = run.components.validate(state.inference_network)
    except NotFiniteError as error:  # on all ranks
        logger.warning("notice: epoch %d is not scored: %s", state.position.epoch, error)

    if scores is not None:
        epoch = state.position.epoch
        run.log.log_scalars(state.position.step, progress(run), "val", scores.values)
        values = "  ".join(f"{name} {value:.3f}" for name, value in scores.values.items())
        logger.info("epoch %d: %s", epoch, values)
        for note in scores.notes:
            logger.info("  %s", note)

        if state.best.is_reached_by(scores.main):
            state.best.score = scores.main
            state.best.epoch = epoch
            save_weights(run, "best", {"epoch": epoch, "scores": dict(scores.values)})
            logger.info("  the best so far: %s", run.folder.model_best)

    state.position.validation_due = False
    save_checkpoint(run)


def save_checkpoint(run: TrainingRun) -> None:
    """Write the checkpoint; all ranks must call it.

    UserError where the weights are not finite: the checkpoint before is kept.
    """
    check_finite(run.state.network, run.state.averaged, format_position(run), run.folder.checkpoint)
    content = run.state.checkpoint_content(run.context)
    if run.lock is not None:
        run.lock.check_still_held()
    if run.context.is_main_process:
        restore_removed_folder(run)
        content["config"] = config_text(run.cfg)
        content["skeleton"] = dict(run.components.skeleton)
        content["torchrun"] = torchrun_id()
        content["metrics_csv_bytes"] = run.log.metrics.size()
        write_checkpoint(content, run.folder.checkpoint)
    run.last_save = time.monotonic()
    run.context.barrier()


def restore_removed_folder(run: TrainingRun) -> None:
    """Write the settings again where somebody has removed the folder of the running training."""
    if run.folder.config.is_file():
        return
    logger.warning("notice: %s was removed; it is made again", run.folder.root)
    run.folder.create(run.cfg)
    write_protocol(run.cfg, run.components.skeleton, run.folder)


def save_weights(run: TrainingRun, which: str, extra: dict[str, object]) -> None:
    """Write model_best.pth or model_final.pth: the weights with their settings and skeleton."""
    if not run.context.is_main_process:
        return
    paths = {"best": run.folder.model_best, "final": run.folder.model_final}
    save_model(
        paths[which],
        run.state.inference_network.state_dict(),
        config_text(run.cfg),
        run.components.skeleton,
        extra,
    )


def log_progress(run: TrainingRun) -> None:
    """Log the steps since the last line; here a step waits for the device."""
    position = run.state.position
    steps = run.steps_since_log
    run.steps_since_log = 0
    terms = run.state.meter.read(run.context)
    speed = run.speed.read(steps, run.train_loader.seconds_waited)
    precision = run.state.precision.read()
    other = {"learning_rate": run.learning_rate, **precision, **speed}
    run.log.log_scalars(position.step, progress(run), "train", {**terms, **other})

    if run.context.is_main_process:
        eta = format_duration(run.speed.seconds_left(steps_left(run)))
        values = format_values(terms, other)
        logger.info("%s  %s%s  ETA %s", format_position(run), values, format_memory(run), eta)

    skipped = run.state.precision.skipped_steps_notice(precision.get("skipped_steps", 0), steps)
    run.log.warn_once(position.epoch, "skipped steps", skipped)
    waiting = data_wait_notice(run.cfg, speed["data_share"])
    run.log.warn_once(position.epoch, "waiting for data", waiting)


def log_gradients(run: TrainingRun, batch: Batch) -> None:
    """DEBUG.GRADIENT_NORMS: log the pull of each loss term in the last batch of this rank."""
    step = run.step
    if not run.cfg.DEBUG.GRADIENT_NORMS:
        return
    assert isinstance(step.network, PoseNet) and isinstance(step.criterion, Criterion)
    norms = gradient_norms(step.network, step.criterion, step.make_targets, step.normalise, batch)

    position = run.state.position
    run.log.log_scalars(position.step, progress(run), "gradient_share", norms.share)
    run.log.log_scalars(position.step, progress(run), "gradient_cosine", norms.cosine)
    if run.context.is_main_process:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in norms.share.items())
        logger.info("gradient shares: %s", shares)


def log_stop(run: TrainingRun, stop: StopRequest) -> None:
    """Log which signals have stopped the run; all ranks must call it."""
    names = set(run.context.all_gather_object(stop.signal_name))
    names.discard("")  # of ranks without a signal
    signals = " and ".join(sorted(names))
    logger.info(
        "stopped by %s at %s; everything is saved, resume with AUTO_RESUME True",
        signals,
        format_position(run),
    )


def log_results(run: TrainingRun) -> None:
    """At the end of the run: draw the curves, and log where the results are."""
    if not run.context.is_main_process:
        return
    folder = run.folder
    if folder.metrics_csv.is_file():
        try:
            plot_curves(folder.metrics_csv, folder.curves, title=str(folder.root))
        except UserError as error:  # no values: the training is complete all the same
            logger.info("notice: no curves were drawn: %s", error)

    best = run.state.best
    if best.epoch > 0:
        logger.info(
            "the best weights are of epoch %d (%.3f): %s", best.epoch, best.score, folder.model_best
        )
    curves = f", curves: {folder.curves}" if folder.curves.is_file() else ""
    logger.info(
        "done after %d steps; weights: %s%s; evaluate them with tools/valid.py --cfg %s",
        run.state.position.step,
        folder.model_final,
        curves,
        folder.config,
    )


def format_memory(run: TrainingRun) -> str:
    """The GPU's peak memory so far, for the log line."""
    if run.context.device.type != "cuda":
        return ""
    peak = torch.cuda.max_memory_allocated(run.context.device)
    return f"  memory {peak / 2**30:.1f} GiB"


def steps_left(run: TrainingRun) -> int:
    """Steps to the end of the run."""
    position = run.state.position
    if run.cfg.TRAIN.END_STEP:
        return int(run.cfg.TRAIN.END_STEP) - position.step

    later_epochs = run.end_epoch - position.epoch - 1
    in_this_epoch = run.partition.num_steps(position.seen)
    return later_epochs * run.partition.num_steps() + in_this_epoch


def steps_left_in_epoch(run: TrainingRun) -> int:
    """Steps to the end of the current epoch or, if it comes first, of the run."""
    in_this_epoch = run.partition.num_steps(run.state.position.seen)
    return min(in_this_epoch, steps_left(run))


def progress(run: TrainingRun) -> float:
    """Epochs done, with fraction."""
    return run.state.position.epoch + run.state.position.seen / run.partition.num_images


def format_position(run: TrainingRun) -> str:
    """'epoch 3/300, step 1207': epochs count from 1, steps are updates since the start."""
    position = run.state.position
    return f"epoch {position.epoch + 1}/{run.end_epoch}, step {position.step}"
