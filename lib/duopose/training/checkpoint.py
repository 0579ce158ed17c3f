"""What a checkpoint holds, its file, and the decision whether and from which one a run resumes.

`TrainState.checkpoint_content` gives the state of the run; `loop.save_checkpoint` adds the settings
and the skeleton. docs/training.md has a table of the keys. A checkpoint is written atomically and
the one before is kept beside it as `.previous`, so that at every moment at least one whole file
exists: after a kill, on a full disk, with a damaged block.
"""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import config_text, saved_settings
from duopose.config.differences import acts_on_learning, differences
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.locks import FolderLock
from duopose.network import translate_state_dict
from duopose.network.torch_files import NoTorchFile, TorchFileError, read_torch_content
from duopose.run_folder import EARLIER, RunFolder
from duopose.runtime import get_rng_states, set_rng_states
from duopose.training.checkpoint_content import is_state
from duopose.training.finite import ADVICE, first_not_finite
from duopose.training.log import LossMeter
from duopose.training.optim import AveragedWeights, load_optimizer
from duopose.training.precision import Precision
from duopose.training.skipped_samples import SkippedSamples

CheckpointContent = dict[str, Any]
FORMAT = 1  # of the checkpoint file; other values are not read
_WHICH_FILE = "name checkpoint.pth in the folder of a run, or the folder"


@dataclass
class Position:
    """How far the run is; the learning rate follows from it. The names are keys in checkpoints."""

    epoch: int = 0  # epochs that are complete
    seen: int = 0  # images of this epoch that all ranks together have used
    step: int = 0  # updates since the start of the run
    validation_due: bool = False  # the epoch before this one has not been validated yet


@dataclass
class Best:
    """The best validation so far. The names are keys in checkpoints."""

    score: float = -1.0  # AP, or the main metric of the benchmark
    epoch: int = -1

    def is_reached_by(self, score: float) -> bool:
        """Whether weights with this score become the best.

        Of equal scores the later epoch is kept: it has learned longer. With few validation images
        scores are often equal, above all 0 at the beginning.
        """
        return score >= self.score


@dataclass
class TrainState:
    """The objects of a run that change; `checkpoint_content` and `restore` are inverse."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    averaged: AveragedWeights | None
    position: Position = field(default_factory=Position)
    best: Best = field(default_factory=Best)
    meter: LossMeter = field(default_factory=LossMeter)
    skipped: SkippedSamples = field(default_factory=SkippedSamples)

    @property
    def inference_network(self) -> nn.Module:
        """The network to validate and to save: the averaged one, if there is one."""
        return self.averaged.network if self.averaged else self.network

    def checkpoint_content(self, context: DistributedContext) -> dict[str, Any]:
        """Tensors and plain values. All ranks must call it: each has its own random states."""
        own = {
            "random": get_rng_states(),
            "meter": self.meter.state_dict(),
            "skipped": self.skipped.count,
        }
        averaged = self.averaged.network.state_dict() if self.averaged else None
        return {
            "position": asdict(self.position),
            "best": asdict(self.best),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "averaged": averaged,
            "ranks": context.all_gather_object(own),
        }

    def restore(self, content: dict[str, Any], context: DistributedContext) -> None:
        """Load the content of a checkpoint, as `checkpoint_content.check_content` accepts it.

        Ranks that the run did not have when it was saved keep their own random states. UserError
        where the content is not that of this network or optimizer.
        """
        self.position = Position(**content["position"])
        self.best = Best(**content["best"])
        _load_weights(self.network, content["network"])
        load_optimizer(self.optimizer, content["optimizer"])
        try:
            self.precision.load_state_dict(content["precision"])
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(
                f"the loss scale in the checkpoint is damaged ({error}); resume from another one"
            ) from error
        if self.averaged is not None:
            _load_weights(self.averaged.network, content["averaged"] or content["network"])

        if context.rank < len(content["ranks"]):
            own = content["ranks"][context.rank]
            self.meter.load_state_dict(own["meter"])
            self.skipped.count = own.get("skipped", 0)  # older checkpoints have none
            try:
                set_rng_states(own["random"])
            except (TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
                raise UserError(
                    f"the random states in the checkpoint are damaged ({error}); resume from "
                    "another checkpoint"
                ) from error


def _load_weights(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load the weights of a checkpoint; older ones have other names for the same tensors."""
    translated = translate_state_dict(weights, network)
    own = network.state_dict()
    different = set(translated) ^ set(own)
    different |= {
        name
        for name in set(own) & set(translated)
        if own[name].shape != translated[name].shape or own[name].dtype != translated[name].dtype
    }
    if different:
        raise UserError(
            f"{len(different)} tensors of the checkpoint are not those of this network, first "
            f"'{min(different)[:200]}'; set MODEL.* as it was, or start from its weights "
            "(MODEL.PRETRAINED)"
        )
    network.load_state_dict(translated)


# ---- files ----


class LoadedCheckpoint(NamedTuple):
    """A checkpoint that was read, and notices about newer ones that are damaged."""

    content: CheckpointContent
    path: Path
    notices: tuple[str, ...]


def previous_path(path: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return path.with_name(path.name + ".previous")


def checkpoint_exists(path: Path) -> bool:
    """Whether there is a checkpoint, whole or not, or the one before it."""
    return path.is_file() or previous_path(path).is_file()


def write_checkpoint(content: CheckpointContent, path: Path) -> None:
    """Replace the newest checkpoint, keeping it as the previous one.

    UserError where it cannot be written; the newest checkpoint is then unchanged.
    """
    buffer = io.BytesIO()  # torch's own file writer reports a full disk less clearly
    torch.save({"format": FORMAT, **content}, buffer)

    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    try:
        write_atomically(path, buffer.getbuffer(), previous=previous_path(path))
    except OSError as error:
        raise UserError(_write_error_message(path, len(buffer.getbuffer()), error)) from error


def _write_error_message(path: Path, size: int, error: OSError) -> str:
    existing = [str(file) for file in (path, previous_path(path)) if file.is_file()]
    kept = "there is no earlier checkpoint"
    if existing:
        kept = f"the last good checkpoint is whole: {existing[0]}"
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free"
    except OSError:
        free = ""

    return (
        f"the checkpoint {path} could not be written: {error.strerror} "
        f"(it needs {size / 1e6:.1f} MB{free}); {kept}. "
        "Make room and resume with AUTO_RESUME True"
    )


def read_checkpoint(path: Path) -> LoadedCheckpoint:
    """The checkpoint `path`, or the previous one, with a notice, where `path` is damaged.

    UserError where neither can be read.
    """
    notices: list[str] = []
    for candidate in (path, previous_path(path)):
        if not candidate.exists():
            continue
        try:
            content = _read(candidate)
            return LoadedCheckpoint(content, candidate, tuple(notices))
        except UserError as error:  # whole, but no checkpoint
            notices.append(str(error))
        except TorchFileError as error:
            notices.append(f"checkpoint {candidate} is damaged and is not used: it {error}")

    missing = (
        f"there is no checkpoint {path}; tools/dist_train.py writes checkpoint.pth into the "
        "folder of a run at the end of each epoch"
    )
    raise UserError("; ".join(notices) or missing)


def _read(path: Path) -> CheckpointContent:
    """UserError where the file is whole and something else; TorchFileError where it is damaged."""
    try:
        content: CheckpointContent = read_torch_content(path)
    except NoTorchFile as error:
        if path.stat().st_size == 0:
            raise
        raise UserError(f"{path} is not a checkpoint: it {error}; {_WHICH_FILE}") from error

    if not isinstance(content, dict) or "format" not in content:
        raise UserError(
            f"{path} is a file of weights, not a checkpoint from which a training can resume; "
            f"{_WHICH_FILE}; to start from its weights, set MODEL.PRETRAINED {path}"
        )
    if not isinstance(content["format"], int) or content["format"] != FORMAT:
        raise UserError(
            f"{path} is a checkpoint of another version of Duopose (format "
            f"{str(content['format'])[:20]}, not {FORMAT}); resume it with that version"
        )
    network = content.get("network")
    not_finite = first_not_finite(network) if is_state(network) else ""
    if not_finite:
        raise UserError(f"checkpoint {path} is not used: {not_finite} is not finite. {ADVICE}")
    return content


def torchrun_id_in(path: Path) -> str:
    """Which run of torchrun has written a checkpoint; empty where none has, or it is unreadable.

    The tensors are not read.
    """
    for candidate in (path, previous_path(path)):
        try:
            content = read_torch_content(candidate, with_tensors=False)
        except TorchFileError:  # `read_checkpoint` says what is wrong
            continue
        return str(content.get("torchrun", ""))[:200] if isinstance(content, dict) else ""
    return ""


def checkpoint_to_resume(
    folder: RunFolder, resume: str, auto_resume: bool, run_id: str = ""
) -> Path | None:
    """The checkpoint from which the run resumes, or None for a new run.

    resume: the argument of --resume, a file or the folder of a run. auto_resume: use the run
    folder's own. run_id: `torchrun_id`; a run resumes from what it has written itself before
    torchrun restarted it, since --resume's is the one it started from.
    """
    own_exists = checkpoint_exists(folder.checkpoint)
    if run_id and own_exists and torchrun_id_in(folder.checkpoint) == run_id:
        return folder.checkpoint
    if resume:
        path = Path(resume)
        return path / "checkpoint.pth" if path.is_dir() else path
    return folder.checkpoint if auto_resume and own_exists else None


def differing_settings(cfg: CfgNode, saved_config: str) -> list[str]:
    """Settings that change what is learned and differ from the checkpoint's.

    saved_config: yaml text. Returns lines such as 'TRAIN.LR: 0.001 in the checkpoint, 0.01 now'.
    """
    now = saved_settings(config_text(cfg))
    saved = saved_settings(saved_config)
    free_keys = _mixed_precision_keys_without_effect(now, saved)
    if cfg.TRAIN.LR_SCHEDULE == "step":  # the cosine's rate depends on the end
        free_keys.update(("TRAIN.END_EPOCH", "TRAIN.END_STEP"))

    lines = []
    for key, values in differences([saved, now]).items():
        if acts_on_learning(key) and key not in free_keys:
            saved_value, value = values
            lines.append(f"{key}: {saved_value!r} in the checkpoint, {value!r} now")
    return sorted(lines)


def _mixed_precision_keys_without_effect(now: dict[str, Any], saved: dict[str, Any]) -> set[str]:
    """FP16.* settings that neither run reads: all without fp16, the static scale beside dynamic."""
    runs = [run for run in (now, saved) if run["FP16.ENABLED"]]
    free_keys = {"FP16.DYNAMIC_LOSS_SCALE", "FP16.STATIC_LOSS_SCALE"}
    if not runs:
        free_keys.add("FP16.DTYPE")
    with_scale = [run for run in runs if run["FP16.DTYPE"] == "fp16"]
    if with_scale:
        free_keys.remove("FP16.DYNAMIC_LOSS_SCALE")
    if not all(run["FP16.DYNAMIC_LOSS_SCALE"] for run in with_scale):
        free_keys.remove("FP16.STATIC_LOSS_SCALE")
    return free_keys


def check_settings(cfg: CfgNode, loaded: LoadedCheckpoint, allow_differences: bool) -> list[str]:
    """Notices about differing settings where these are allowed, else UserError with all of them."""
    differing = differing_settings(cfg, loaded.content["config"])
    if differing and not allow_differences:
        settings = "\n  ".join(differing)
        raise UserError(
            f"{loaded.path} was written with other settings:\n  {settings}\n"
            "set them as they were, or add --resume-anyway to resume with the new ones, or start "
            "anew without --resume and AUTO_RESUME"
        )
    return [f"resuming although settings differ: {line}" for line in differing]


def move_earlier_run(folder: RunFolder, lock: FolderLock | None = None) -> Path | None:
    """Move the files of an earlier run into a sub-folder, so that a new run overwrites nothing.

    lock: of this process; the record of the earlier run is taken from it. Returns the sub-folder,
    None where there was no earlier run.
    """
    previous_checkpoint = previous_path(folder.checkpoint)
    signs_of_a_run = [
        folder.metrics_csv,
        folder.checkpoint,
        previous_checkpoint,
        folder.model_best,
        folder.model_final,
    ]
    if not any(file.is_file() for file in signs_of_a_run):
        return None

    number = 1
    while (target := folder.root / f"{EARLIER}{number}").exists():
        number += 1
    target.mkdir(parents=True)

    # All that is there: also files that other tools and the user have put beside those of the run.
    for path in list(folder.root.iterdir()):
        if path != folder.lock and not path.name.startswith(EARLIER):
            path.rename(target / path.name)
    if lock is not None:
        lock.write_previous(target / folder.lock.name)
    if folder.log.is_dir() and not os.path.samefile(folder.log, folder.root):
        shutil.move(folder.log, target / "log")  # LOG_DIR may be on another disk
    return target
