"""All checks, with their time limits."""

from __future__ import annotations

from duopose.errors import UserError
from duopose.gpu_check.check_runner import Check
from duopose.gpu_check.cpu_agreement import losses_and_gradients, maps_and_people, targets
from duopose.gpu_check.evaluated_people import evaluated_people
from duopose.gpu_check.exact_repeats import repeats
from duopose.gpu_check.gloo_ranks import two_ranks
from duopose.gpu_check.speed_checks import batch_search, benchmark_checks, machine
from duopose.gpu_check.synchronising_lines import image_waits, step_waits, synchronised_norm_waits
from duopose.gpu_check.training_variants import compiled_step, overflowing_first_step, variants

NO_WAITS = "torch counts waits for CUDA alone; tests/devices counts on a pretended device"
NO_NCCL = "NCCL and the kernels of synchronised batch normalisation need CUDA"
NO_COMPILER = "compiled code of a CPU says nothing of CUDA"

CHECKS = (
    Check("machine", machine, 120),
    Check("targets", targets, 90),
    Check("losses", losses_and_gradients, 150),
    Check("decoding", maps_and_people, 120),
    Check("evaluation", evaluated_people, 120),
    Check("variants", variants, 180),
    Check("overflow", overflowing_first_step, 90),
    Check("step waits", step_waits, 120, needs_cuda=NO_WAITS),
    Check("image waits", image_waits, 90, needs_cuda=NO_WAITS),
    Check("synchronised norm", synchronised_norm_waits, 120, needs_cuda=NO_NCCL),
    Check("repeats", repeats, 180),
    Check("two ranks", two_ranks, 180),
    Check("compiled", compiled_step, 240, needs_cuda=NO_COMPILER),
    Check("batch search", batch_search, 120, alone=True),
    *benchmark_checks(120),
)


def select(names: str, factor: float = 1.0) -> list[Check]:
    """The checks with these names, separated by commas; all where there are none.

    factor: of the time limits, for a machine that is slow or has other work.
    """
    known = {check.name: check for check in CHECKS}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UserError(f"there is no check '{unknown[0]}'; there are: {', '.join(known)}")

    return [
        Check(one.name, one.function, factor * one.limit, one.alone, one.needs_cuda)
        for one in (known[name] for name in wanted)
    ]
