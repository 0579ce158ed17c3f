"""Two ranks on one GPU: DistributedDataParallel, synchronised batch normalisation, recomputation.

NCCL needs a GPU for each rank, so the ranks talk by gloo.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import meet_on_this_machine
from duopose.gpu_check.check_runner import Finding
from duopose.gpu_check.small_runs import (
    relative_distance,
    same_bits,
    small_training,
    torch_device,
    train_steps,
    weights_of,
)

RANKS = 2
BATCH = 2  # images of each rank
STEPS = 2  # one epoch of the drawn images
# Plain gradient descent: Adam divides by the gradient's size, which amplifies rounding errors.
SETTINGS = (
    "DETERMINISTIC", True, "CUDNN.TF32", False, "TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 0.01,
    "MODEL.SYNC_BN", True, "TRAIN.IMAGES_PER_GPU",
)  # fmt: skip
RECOMPUTE = ("MODEL.CHECKPOINT_ACTIVATIONS", True)
# |difference| / |update| of the weights; batch normalisation over two ranks adds in another order.
TOLERANCE = 2e-2

Weights = dict[str, torch.Tensor]


def two_ranks(device: str) -> Iterator[Finding]:
    """Both ranks have the same weights, with and without recomputation; one process gives them."""
    plain = _train_two_ranks(device)
    yield _in_bits("two ranks, DDP, the same weights", plain[0], plain[1], only_parameters=True)

    with_recomputation = _train_two_ranks(device, *RECOMPUTE)
    yield _in_bits("two ranks, recomputation", plain[0], with_recomputation[0])

    if device == "cpu":
        reason = "synchronised batch normalisation has kernels for CUDA alone"
        yield Finding("two ranks, SYNC_BN", None, reason)
        return
    yield _as_one_process(device, plain[0])


def _as_one_process(device: str, of_ranks: Weights) -> Finding:
    """Two ranks with a batch of b are one process with 2 b."""
    with small_training(device, *SETTINGS, RANKS * BATCH) as run:
        start = _parameters(weights_of(run), run.state.network)
        train_steps(run, STEPS)
        end = _parameters(weights_of(run), run.state.network)

    update = _flat(end) - _flat(start)
    found = _flat({name: of_ranks[name] for name in end}) - _flat(start)
    difference = relative_distance(found, update)
    figure = f"updates differ by {difference:.2g} from one process with the double batch"
    return Finding("two ranks, SYNC_BN", difference <= TOLERANCE, figure)


def _in_bits(name: str, one: Weights, other: Weights, only_parameters: bool = False) -> Finding:
    """only_parameters: on a CPU each rank has batch statistics of its own."""
    if only_parameters:
        one = {key: tensor for key, tensor in one.items() if "running" not in key}
        other = {key: other[key] for key in one}
    different = sum(not torch.equal(tensor, other[key]) for key, tensor in one.items())
    return Finding(name, same_bits(one, other), f"{different} of {len(one)} tensors differ in bits")


def _train_two_ranks(device: str, *settings: object) -> list[Weights]:
    """The weights of each rank after a few steps."""
    with TemporaryDirectory(prefix="duopose-check-") as folder:
        spawn(_rank, args=(folder, device, settings), nprocs=RANKS)
        files = [Path(folder) / f"{rank}.pth" for rank in range(RANKS)]
        return [torch.load(file, weights_only=True) for file in files]


def _rank(rank: int, folder: str, device: str, settings: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    meet_on_this_machine()
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    control_group = dist.new_group(backend="gloo")
    context = DistributedContext(torch_device(device), rank, RANKS, rank, RANKS, control_group)
    with small_training(device, *SETTINGS, BATCH, *settings, context=context) as run:
        train_steps(run, STEPS)
        torch.save(weights_of(run), Path(folder) / f"{rank}.pth")
    dist.destroy_process_group()


def _parameters(weights: Weights, network: torch.nn.Module) -> Weights:
    return {name: weights[name] for name, _ in network.named_parameters()}


def _flat(weights: Weights) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in weights.values()])
