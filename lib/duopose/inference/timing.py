"""How many milliseconds each stage takes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimes:
    """Wall time by stage name, added up; threads may time different stages at once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def milliseconds(self, count: int) -> dict[str, float]:
        """Milliseconds per image, by stage, for `count` images."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}
