"""Equal budgets: how many steps each variant may train for the CPU seconds of the reference.

Wall time means little on a machine that others use, and even CPU seconds change from minute to
minute (caches, clock rates). Their *ratio* is stable when the variants take turns in one process:

    c_v     = median CPU seconds an image of variant v, loading included, all variants in turn
    steps_v = steps_ref * (c_ref * images a step of ref) / (c_v * images a step of v)

The reference trains as its settings say. The number of steps is fixed before the trainings, so an
interrupted study gives the same numbers. On a GPU, which is not shared, wall time is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import orjson
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.distributed.context import DistributedContext, init_distributed
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.json_files import read_typed_json
from duopose.profiling.measure import measure
from duopose.run_folder import RunFolder
from duopose.runtime import configure_torch, seed_everything
from duopose.study.study_file import Settings, setting_words
from duopose.training.log import RunLog
from duopose.training.loop import train_step
from duopose.training.setup import ComponentsBuilder, TrainingRun, build_components, build_run
from duopose.types import Batch

REPEATS = 15  # timed steps of each variant; the median counts
WARM_UP = 2  # rounds that are not counted: the first steps allocate memory and choose kernels
UNTIMED = 1  # steps before each timed one, so that caches hold what this variant uses
ENDLESS = 1_000_000  # epochs; the measurement ends by itself


class _Spec(TypedDict):
    """What `plan` writes for `measure`."""

    recipe: str
    reference: str  # id of a training
    trainings: dict[str, Settings]  # by id


_SPEC = msgspec.json.Decoder(_Spec)


def measure_study(
    spec_file: Path,
    out: Path,
    build: ComponentsBuilder = build_components,
    repeats: int = REPEATS,
) -> dict[str, int]:
    """Measure the trainings of a spec file (plan.py); returns the steps of each, by its id.

    Steps and seconds per image are written to `out`.
    """
    spec: _Spec = read_typed_json(spec_file, "trainings to measure", _SPEC)
    recipe = spec["recipe"]
    reference = spec["reference"]
    if reference not in spec["trainings"]:
        raise UserError(f"trainings to measure '{spec_file}': '{reference}' is not one of them")
    cfgs = {
        name: _config_to_measure(recipe, settings) for name, settings in spec["trainings"].items()
    }
    context = init_distributed(cfgs[reference].DEVICE)
    configure_torch(cfgs[reference])
    seed_everything(0)
    runs = {name: _build_run(cfg, recipe, context, build) for name, cfg in cfgs.items()}

    is_gpu = context.device.type == "cuda"
    steppers = {name: one_step(run) for name, run in runs.items()}
    times = measure(
        steppers, repeats, warm_up=WARM_UP, clock="wall" if is_gpu else "cpu", untimed_calls=UNTIMED
    )
    seconds_per_image = {
        name: times[name] / 1000 / run.partition.images_per_step for name, run in runs.items()
    }

    reference_cfg = load_config(recipe, setting_words(spec["trainings"][reference]))
    images = planned_images(reference_cfg, runs[reference].partition.num_images)
    steps = {
        name: equal_steps(
            images * seconds_per_image[reference], seconds_per_image[name], images_per_step(cfg)
        )
        for name, cfg in cfgs.items()
    }
    content = {"steps": steps, "seconds_per_image": seconds_per_image, "reference": reference}
    write_atomically(out, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return steps


def images_per_step(cfg: CfgNode) -> int:
    """Images of all processes of a training in one step."""
    return int(cfg.GPUS * cfg.TRAIN.IMAGES_PER_GPU * cfg.TRAIN.ACCUMULATE)


def planned_images(cfg: CfgNode, num_images: int) -> int:
    """Images that a training uses in all its epochs or steps."""
    if cfg.TRAIN.END_STEP:
        return int(cfg.TRAIN.END_STEP) * images_per_step(cfg)
    return int(cfg.TRAIN.END_EPOCH - cfg.TRAIN.BEGIN_EPOCH) * num_images


def equal_steps(budget: float, seconds_per_image: float, images: int) -> int:
    """Steps of `images` images that cost `budget` seconds, rounded, at least 1."""
    return max(round(budget / (seconds_per_image * images)), 1)


def one_step(run: TrainingRun) -> Callable[[], None]:
    """A function that loads the next batches and makes one update."""
    batches = _endless_batches(run)
    return lambda: train_step(run, next(batches))


def _endless_batches(run: TrainingRun) -> Iterator[list[Batch]]:
    """The batches of epoch after epoch."""
    position = run.state.position
    while True:
        yield from run.train_loader.steps(position.epoch, position.seen)
        position.epoch += 1
        position.seen = 0


def _config_to_measure(recipe: str, settings: Mapping[str, Any]) -> CfgNode:
    """The settings of a training that loads in this process, writes nothing and does not end."""
    own: Settings = {
        "WORKERS": 0,
        "VERBOSE": False,
        "TRAIN.VAL_EVERY": 0,
        "TRAIN.BEGIN_EPOCH": 0,
        "TRAIN.END_EPOCH": ENDLESS,
        "TRAIN.END_STEP": 0,
    }
    return load_config(recipe, setting_words({**settings, **own}))


def _build_run(
    cfg: CfgNode, recipe: str, context: DistributedContext, build: ComponentsBuilder
) -> TrainingRun:
    folder = RunFolder.from_config(cfg, recipe)
    log = RunLog(folder, context, verbose=False, dry_run=True)
    return build_run(cfg, build(cfg, context, folder), context, folder, log)
