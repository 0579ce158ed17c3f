"""How the ranks of one start find each other in a store that earlier starts have used too.

torchrun keeps one key-value store over all restarts, in which gloo and NCCL would read the
addresses of processes that have ended. So each start needs keys of its own, under a name that all
its ranks know. No variable of torchrun is such a name: TORCHELASTIC_RESTART_COUNT is counted by
each machine for itself, and a machine whose processes were only restarted with the others does not
count it.

Rank 0 therefore draws a name for each start and publishes it. Another rank that reads it cannot
know whether it is that of the start before. It knocks under the name, and takes it once rank 0 has
answered this very knock; a rank 0 that has ended, or is past its start, answers nobody.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import torch.distributed as dist

from duopose.errors import UserError

# The processes of a start are begun together, after torchrun has brought the machines together;
# this is for slow imports. A run that waits longer has lost a process.
MEETING_TIME = timedelta(minutes=15)
POLL_SECONDS = 0.1  # between two looks for an answer

CURRENT_NAME = "duopose/start"


def meet(
    store: dist.Store, rank: int, world_size: int, limit: timedelta = MEETING_TIME
) -> dist.Store:
    """A part of the store for this start alone; returns when all ranks have met in it.

    UserError naming the ranks that have not come within the limit.
    """
    deadline = time.monotonic() + limit.total_seconds()
    if rank == 0:
        name = _call_together(store, world_size, deadline)
    else:
        name = _knock(store, rank, deadline)
    return dist.PrefixStore(f"duopose/{name}", store)


def _call_together(store: dist.Store, world_size: int, deadline: float) -> str:
    """Rank 0: publish a new name and answer the others until each has knocked."""
    name = uuid.uuid4().hex
    store.set(CURRENT_NAME, name)

    missing = set(range(1, world_size))
    while missing:
        # Also those who were here: a rank that ended since and was started again knocks again.
        for rank in range(1, world_size):
            if store.check([_knock_key(name, rank)]):
                knock = store.get(_knock_key(name, rank)).decode()
                store.set(_answer_key(knock), "here")
                missing.discard(rank)
        if missing and time.monotonic() > deadline:
            late = ", ".join(map(str, sorted(missing)))
            raise UserError(
                f"{len(missing)} of {world_size} processes did not start (rank {late}); look "
                "for the cause in the output on their machines"
            )
        time.sleep(POLL_SECONDS if missing else 0)
    return name


def _knock(store: dist.Store, rank: int, deadline: float) -> str:
    """Another rank: the name under which rank 0 has answered."""
    knock = uuid.uuid4().hex
    name = ""
    while not store.check([_answer_key(knock)]):
        published = store.get(CURRENT_NAME).decode() if store.check([CURRENT_NAME]) else ""
        if published != name:
            knock = uuid.uuid4().hex  # an answer to the knock before would be of an earlier start
            name = published
            store.set(_knock_key(name, rank), knock)
        if time.monotonic() > deadline:
            raise UserError(
                "the first process (rank 0) did not start; look for the cause in the output on its "
                "machine"
            )
        time.sleep(POLL_SECONDS)
    return name


def _knock_key(name: str, rank: int) -> str:
    return f"duopose/{name}/knock/{rank}"


def _answer_key(knock: str) -> str:
    return f"duopose/answer/{knock}"
