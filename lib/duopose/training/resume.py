"""Going on where a run stopped: which checkpoint, whether the settings are still the same, and what stood in the folder before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose.config import config_text, saved_settings
from duopose.errors import UserError
from duopose.run_folder import RunFolder
from duopose.training import checkpoint

# Settings that may differ: they change where files lie, how fast it goes or how results are measured, not what is learned.
FREE_SECTIONS = ("TEST.", "DEBUG.", "CUDNN.")
FREE_KEYS = {
    "OUTPUT_DIR", "LOG_DIR", "DEVICE", "GPUS", "WORKERS", "THREADS", "PRINT_FREQ", "AUTO_RESUME", "VERBOSE", "DETERMINISTIC",
    "MODEL.PRETRAINED", "MODEL.CHANNELS_LAST", "MODEL.CHECKPOINT_ACTIVATIONS", "DATASET.ROOT", "DATASET.TEST",
    "DATASET.TEST_ANNOTATIONS", "DATASET.TEST_IMAGES", "TRAIN.VAL_EVERY", "TRAIN.CHECKPOINT_EVERY", "TRAIN.COMPILE",
    "TRAIN.FUSED", "TRAIN.TOTAL_BATCH",
}  # fmt: skip


def checkpoint_to_resume(
    run: RunFolder, wanted: str, automatic: bool, restarted: bool
) -> Path | None:
    """The checkpoint to go on from: --resume's (a file or a run's folder), else the run folder's where `automatic`, else none.

    Workers that torchrun has started again go on from the run folder's in any case, or they would begin at --resume's again.
    """
    if restarted and checkpoint.exists(run.checkpoint):
        return run.checkpoint
    if wanted:
        path = Path(wanted)
        return path / "checkpoint.pth" if path.is_dir() else path
    return run.checkpoint if automatic and checkpoint.exists(run.checkpoint) else None


def differing_settings(cfg: CfgNode, saved: str) -> list[str]:
    """'TRAIN.LR: 0.001 in the checkpoint, 0.01 now' for each setting that changes what is learned; `saved` is a config's text."""
    now = saved_settings(config_text(cfg))
    then = saved_settings(saved)
    longer_is_fine = (
        {"TRAIN.END_EPOCH"} if cfg.TRAIN.LR_SCHEDULE == "step" else set()
    )  # cosine's rate depends on the end
    return [
        f"{key}: {then.get(key, 'absent')!r} in the checkpoint, {now.get(key, 'absent')!r} now"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key)
        and key not in FREE_KEYS | longer_is_fine
        and not key.startswith(FREE_SECTIONS)
    ]


def refuse_other_settings(
    cfg: CfgNode, content: dict[str, Any], path: Path, anyway: bool
) -> list[str]:
    """The differing settings as notices if `anyway`, else UserError with all of them."""
    differing = differing_settings(cfg, content["config"])
    if differing and not anyway:
        raise UserError(
            f"{path} was written with other settings:\n  "
            + "\n  ".join(differing)
            + "\nset them as they were, or add --resume-anyway to go on with the new ones, or start anew without --resume and AUTO_RESUME"
        )
    return [f"resuming although settings differ: {line}" for line in differing]


def move_earlier_run(run: RunFolder) -> Path | None:
    """Move a finished or interrupted run's files into a sub-folder, so that starting anew destroys nothing; None where none was."""
    files = [
        run.config,
        run.protocol,
        run.train_log,
        run.metrics_csv,
        run.checkpoint,
        checkpoint.previous(run.checkpoint),
    ]
    files += [run.model_best, run.model_final, run.results]
    if not any(
        file.is_file()
        for file in (
            run.metrics_csv,
            run.checkpoint,
            checkpoint.previous(run.checkpoint),
            run.model_final,
        )
    ):
        return None
    number = 1
    while (target := run.root / f"earlier_{number}").exists():
        number += 1
    target.mkdir(parents=True)
    for file in files:
        if file.exists():
            file.rename(target / file.name)
    if run.log.is_dir():
        shutil.move(run.log, target / "log")  # LOG_DIR may be on another disk
    return target
