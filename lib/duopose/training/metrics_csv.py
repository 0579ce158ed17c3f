"""metrics.csv: losses and scores over time, one number a line, so that columns never change within a run."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

HEADER = "step,epoch,kind,name,value\n"


class MetricsFile:
    """Appends whole lines in one write; a resumed run cuts off what was written after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, epoch: float, kind: str, values: Mapping[str, float]) -> None:
        """Values of one moment; kind is train or val, epoch has a fraction."""
        lines = "".join(
            f"{step},{epoch:.6g},{kind},{name},{value:.9g}\n" for name, value in values.items()
        )
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            data = ((HEADER if not self.size() else "") + lines).encode()
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, "only a part was written", str(self.path))
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut_back(self, size: int) -> None:
        """Forget what lies beyond `size` bytes."""
        if self.size() > size:
            os.truncate(self.path, size)
