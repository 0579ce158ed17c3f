"""Ranks of a process group as threads, with collectives that exchange tensors between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from tests.devices.pretended_cuda import PretendedMode, PretendedTensor


class RankThreads:
    """Runs a function once per rank; inside it torch.distributed has that many ranks.

    The collectives answer as NCCL's: the host does not wait for them.
    """

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.barrier = threading.Barrier(num_ranks, timeout=300)
        self.given: list[torch.Tensor] = [torch.zeros(0)] * num_ranks
        self.local = threading.local()

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """The results of function(rank), by rank."""
        results: list[Any] = [None] * self.num_ranks
        errors: list[BaseException] = []

        def work(rank: int) -> None:
            self.local.rank = rank
            try:
                with PretendedMode():
                    results[rank] = function(rank)
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.num_ranks)]
        with ExitStack() as stack:
            for name, replacement in self._patches().items():
                stack.enter_context(mock.patch(name, replacement, create=True))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        return results

    def _patches(self) -> dict[str, Any]:
        group = mock.Mock()
        group._get_backend_name = lambda: "nccl"
        return {
            "torch.distributed.is_initialized": lambda: True,
            "torch.distributed.get_world_size": lambda group=None: self.num_ranks,
            "torch.distributed.get_backend": lambda group=None: "nccl",
            "torch.distributed.group": mock.Mock(WORLD=group),
            "torch.distributed.all_reduce": self.all_reduce,
            "torch.distributed.all_gather_single": self.all_gather,
            "torch.distributed.all_gather_into_tensor": self.all_gather,
            "torch.distributed._all_gather_base": self.all_gather,
            "duopose.distributed.sync_batch_norm._GATHER": self.all_gather,
        }

    def all_gather(
        self, output: PretendedTensor, tensor: PretendedTensor, *_: Any, **__: Any
    ) -> None:
        gathered = torch.cat([one.flatten() for one in self._exchange(tensor)])
        output.on_cpu.copy_(gathered.view_as(output.on_cpu))

    def all_reduce(self, tensor: PretendedTensor, *_: Any, **__: Any) -> None:
        total = torch.stack(self._exchange(tensor)).sum(dim=0)
        tensor.on_cpu.copy_(total)

    def _exchange(self, tensor: PretendedTensor) -> list[torch.Tensor]:
        """The tensors of all ranks, by rank."""
        self.given[self.local.rank] = tensor.on_cpu.detach().clone()
        self.barrier.wait()
        everyone = list(self.given)
        self.barrier.wait()  # before a rank gives its next tensor
        return everyone
