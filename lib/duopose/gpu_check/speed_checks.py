"""The machine, the search for the largest batch, and the rows of `tools/benchmark.py gpu`."""

from __future__ import annotations

import os
import platform
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import partial

import torch

from duopose.gpu_check.check_runner import Check, Finding
from duopose.gpu_check.small_runs import ON_CPU, relative_distance, small_training, torch_device
from duopose.gpu_check.training_variants import missing_for_compiling
from duopose.profiling.gpu_stage import GIB, GPU
from duopose.profiling.measure import Row, add_common_arguments, format_row
from duopose.training.batch_search import (
    LargestBatch,
    find_largest_batch,
    is_out_of_memory,
    largest_shapes,
)
from duopose.training.setup import TrainingRun

MEMORY = 4 * GIB  # for the search, so that it does not need minutes to fill a large GPU
# Size that must fail, over the size that was found: the search ends 1/16 below it.
TOO_LARGE = 1.25

BENCHMARKS: dict[str, tuple[object, ...]] = {
    "fp16": (),
    "bf16": ("FP16.DTYPE", "bf16"),
    "fp16 compiled": ("TRAIN.COMPILE", True),
}
# w32 at 512 x 512. The batch is fixed, because the search would take half of the time.
ON_GPU = ("--steps", "20", "--repeats", "5")
BATCH = 32
SMALL_BATCH = 8  # on GPUs with less than LARGE_MEMORY
LARGE_MEMORY = 40 * GIB
FOR_TRYING_OUT = (
    "--batch", "2", "--steps", "2", "--repeats", "1", "--images", "4", "--matrix", "256",
)  # fmt: skip
SHOWN = (
    "device", "cores", "tflops", "batch", "samples_per_second", "peak_GiB", "of_matrix_rate",
    "busy", "waiting_for_data", "workers",
)  # fmt: skip


def machine(device: str) -> Iterator[Finding]:
    """Versions, and a matrix product in fp32 against float64."""
    figure = f"Python {platform.python_version()}, torch {torch.__version__}"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        figure += (
            f", {properties.name}, {properties.total_memory / GIB:.0f} GiB, capability "
            f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}, NCCL {torch.cuda.nccl.version()}"
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    side = 1024 if device == "cuda" else 128
    left = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    product = left.to(torch_device(device)) @ left.to(torch_device(device))
    difference = relative_distance(product, left.double() @ left.double())
    yield Finding("machine", difference < 1e-5, f"{figure}; matrix product {difference:.1g}")


# ---- the largest batch ----


def batch_search(device: str) -> Iterator[Finding]:
    """On a GPU that is limited to a few GiB: the size that is found fits, a larger one does not."""
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(MEMORY / total, 1.0))
    settings = ("FP16.ENABLED", True, "CUDNN.BENCHMARK", False)
    with small_training(device, *settings) as run:
        largest = find_largest_batch(run)
        name = "largest batch"
        megabytes = largest.bytes_per_image / 2**20
        figure = f"{largest.batch_size} images, {megabytes:.3g} MiB an image"
        if device == "cpu":
            yield Finding(name, largest.batch_size > 0, f"{figure}, an estimate")
            return
        yield _with_both_sides(run, name, figure, largest)


def _with_both_sides(run: TrainingRun, name: str, figure: str, largest: LargestBatch) -> Finding:
    size = largest.batch_size
    larger = int(size * TOO_LARGE) + 2
    fits = size > 0 and _fits(run, size)
    larger_fits = _fits(run, larger)
    figure += f"; {size} fits {fits}, {larger} fits {larger_fits}"
    return Finding(name, fits and not larger_fits and largest.was_run, figure)


def _fits(run: TrainingRun, size: int) -> bool:
    torch.cuda.empty_cache()
    try:
        run.step([largest_shapes(run, size)], [1.0], "the check")
        torch.cuda.synchronize()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        run.state.optimizer.zero_grad(set_to_none=True)
    return True


# ---- the benchmark ----


def benchmark_checks(limit: float) -> list[Check]:
    """A check for each row of BENCHMARKS; compiling gets double the time."""
    checks = []
    for name, settings in BENCHMARKS.items():
        is_compiled = "TRAIN.COMPILE" in settings
        reason = "compiled code of a CPU says nothing of CUDA" if is_compiled else ""
        function = partial(benchmark, name, settings)
        seconds = 2 * limit if is_compiled else limit
        checks.append(Check(f"benchmark {name}", function, seconds, True, reason))
    return checks


def benchmark(name: str, settings: tuple[object, ...], device: str) -> Iterator[Finding]:
    """The rows of `tools/benchmark.py gpu`; they are measured, not judged."""
    if "TRAIN.COMPILE" in settings and (missing := missing_for_compiling()):
        yield Finding(f"benchmark {name}", None, missing)
        return
    parser = ArgumentParser()
    add_common_arguments(parser)
    GPU.add_arguments(parser)
    options = ["--device", device]
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        batch = BATCH if memory >= LARGE_MEMORY else SMALL_BATCH
        options += [*ON_GPU, "--batch", str(batch)]
    else:
        options += FOR_TRYING_OUT
    words = [str(word) for word in (*_sizes(device), *settings)]
    args = parser.parse_args([*options, *words])

    for row in GPU.run(args):
        full_name = f"benchmark {name}, {row['name']}"
        yield Finding(full_name, _is_measured(row), format_row(_shown(row)))


def _sizes(device: str) -> tuple[object, ...]:
    if device == "cpu":
        return (*ON_CPU, "WORKERS", 0)
    return ("WORKERS", max((os.cpu_count() or 1) - 1, 4))


def _shown(row: Row) -> Row:
    return {key: row[key] for key in SHOWN if row.get(key) is not None}


def _is_measured(row: Row) -> bool:
    """Whether all rates are positive numbers."""
    rates = [row[key] for key in ("tflops", "samples_per_second", "busy") if key in row]
    return all(rate > 0 for rate in rates)
