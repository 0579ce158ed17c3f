"""Where a run keeps its files: output/<dataset>/<model>/<config name>/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.config import config_text
from duopose.files import write_atomically


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run; nothing is written before `create`."""

    root: Path
    log: Path  # TensorBoard

    @staticmethod
    def from_config(cfg: CfgNode, config_path: str | Path) -> RunFolder:
        """The run of a config file under these settings."""
        below = Path(cfg.DATASET.DATASET) / cfg.MODEL.NAME / Path(config_path).stem
        return RunFolder(Path(cfg.OUTPUT_DIR) / below, Path(cfg.LOG_DIR) / below)

    def create(self, cfg: CfgNode) -> None:
        """Make the folders and write the resolved settings."""
        self.results.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, config_text(cfg).encode())

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def protocol(self) -> Path:
        """Versions of code and packages, and the test settings."""
        return self.root / "protocol.json"

    @property
    def train_log(self) -> Path:
        """The text log of training."""
        return self.root / "train.log"

    @property
    def metrics_csv(self) -> Path:
        """Losses and scores over time."""
        return self.root / "metrics.csv"

    @property
    def curves(self) -> Path:
        """metrics.csv as an image, made at the end of a training."""
        return self.root / "curves.png"

    @property
    def checkpoint(self) -> Path:
        """The state from which a run resumes."""
        return self.root / "checkpoint.pth"

    @property
    def model_best(self) -> Path:
        """The weights with the best AP in validation."""
        return self.root / "model_best.pth"

    @property
    def model_final(self) -> Path:
        """The weights after the last epoch."""
        return self.root / "model_final.pth"

    @property
    def results(self) -> Path:
        """Results and metrics of evaluations."""
        return self.root / "results"
