"""Where a run keeps its files: output/<dataset>/<model>/<name>/.

The name is that of the config file, or --name. The config.yaml in the folder of a run stands for
that run: with it as --cfg, the folder stays the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.config import config_text
from duopose.config.load import override_keys
from duopose.errors import UserError
from duopose.files import write_atomically

NAME = re.compile(r"\w[\w.-]*")
EARLIER = "earlier_"  # and a number: sub-folder of an earlier run in the same folder


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run; nothing is written before `create`."""

    root: Path
    log: Path  # TensorBoard

    @staticmethod
    def from_config(cfg: CfgNode, config_path: str | Path, name: str = "") -> RunFolder:
        """The run of a config file under these settings.

        name: of the run, by default that of the config file; the config.yaml of a run folder is
        that run. UserError where the name cannot be that of a folder.
        """
        output = Path(cfg.OUTPUT_DIR)
        below = Path(cfg.DATASET.DATASET) / cfg.MODEL.NAME
        if is_run_config(config_path) and not name:
            root = Path(config_path).parent
            real = Path(os.path.realpath(root))
            real_output = Path(os.path.realpath(output))
            is_below = real.is_relative_to(real_output)
            below = real.relative_to(real_output) if is_below else below / real.name
            return RunFolder(root, Path(cfg.LOG_DIR) / below)

        if name and (not NAME.fullmatch(name) or name.startswith(EARLIER)):
            raise UserError(
                f"--name '{name}' cannot be the name of a run: use letters, digits, '_', '-' and "
                f"'.', beginning with a letter or digit, and not with '{EARLIER}'"
            )
        below /= name or Path(config_path).stem
        return RunFolder(output / below, Path(cfg.LOG_DIR) / below)

    def create(self, cfg: CfgNode) -> None:
        """Make the folders and write the resolved settings."""
        self.results.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, config_text(cfg).encode())

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def lock(self) -> Path:
        """Which process uses the folder, or how the last one ended (`duopose.locks`)."""
        return self.root / "run.lock"

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


def is_run_config(path: str | Path) -> bool:
    """Whether a yaml is the config.yaml that a training wrote into its run folder."""
    folder = RunFolder(Path(path).parent, Path())
    signs = (folder.lock, folder.protocol, folder.metrics_csv, folder.model_final)
    return Path(path).name == folder.config.name and any(file.is_file() for file in signs)


def continuing_overrides(config_path: str | Path, name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides of a training: the config.yaml of a run folder continues that run.

    AUTO_RESUME False among the overrides begins it anew.
    """
    continues = is_run_config(config_path) and not name
    if continues and "AUTO_RESUME" not in override_keys(overrides):
        return [*overrides, "AUTO_RESUME", "True"]
    return list(overrides)
