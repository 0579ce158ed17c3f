"""Counts of the images that a training could not use: DATASET.ON_BAD_SAMPLE skip."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from duopose.distributed.context import DistributedContext
from duopose.errors import counted

MAX_NAMED = 10  # images that warnings of a run name; all are counted
logger = logging.getLogger(__name__)


class SkippedSamples:
    """The images of the current epoch that this rank has skipped; each is named once in a run."""

    def __init__(self) -> None:
        self.count = 0  # in this epoch
        self._named: set[str] = set()

    def add(self, reasons: Iterable[str]) -> None:
        """Count skipped images. reasons: a sentence for each, with file and id."""
        for reason in reasons:
            self.count += 1
            if reason not in self._named and len(self._named) < MAX_NAMED:
                self._named.add(reason)
                logger.warning("skipped: %s", reason)

    def end_epoch(self, context: DistributedContext) -> int:
        """The number of all ranks, and start the next epoch; all ranks must call it."""
        total = sum(context.all_gather_object(self.count))
        self.count = 0
        if total and context.is_main_process:
            logger.warning(
                "%s of this epoch could not be used; the images that follow them in the list were "
                "used twice (DATASET.ON_BAD_SAMPLE skip)",
                counted(total, "sample"),
            )
        return total
