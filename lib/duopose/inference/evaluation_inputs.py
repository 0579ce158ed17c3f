"""What an evaluation needs, from the words of the command line, before any process is started.

Either a model file alone, with its own settings and skeleton, or a yaml and the weights of its run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.config import build_skeleton, load_config
from duopose.config.load import override_keys
from duopose.datasets.build import find_files
from duopose.inference.model import read_model_settings
from duopose.inference.weights_protocol import check_is_weight_file, check_weights, find_weights
from duopose.run_folder import RunFolder
from duopose.skeletons import Skeleton


@dataclass(frozen=True)
class EvaluationInputs:
    """Settings, skeleton, weights, and where the results go."""

    cfg: CfgNode
    skeleton: Skeleton
    weights: Path
    folder: Path
    notices: tuple[str, ...] = ()

    @staticmethod
    def from_model_file(path: Path, overrides: Sequence[str]) -> EvaluationInputs:
        """A model file with its own settings; results go into results/ beside it."""
        check_is_weight_file(path, "--model")
        cfg, skeleton = read_model_settings(path, overrides)
        is_in_results = path.parent.name == "results"
        folder = path.parent if is_in_results else path.parent / "results"
        return EvaluationInputs(cfg, skeleton, path, folder)

    @staticmethod
    def from_config(config: str, overrides: Sequence[str], name: str = "") -> EvaluationInputs:
        """TEST.MODEL_FILE, or the weights of the run of a yaml; results go into its folder."""
        cfg = load_config(config, overrides)
        run = RunFolder.from_config(cfg, config, name)
        weights = find_weights(cfg, run)
        source = "TEST.MODEL_FILE" if cfg.TEST.MODEL_FILE else "the weights of the run"
        skeleton = build_skeleton(cfg)
        notices = check_weights(cfg, skeleton, weights, override_keys(overrides), source)
        return EvaluationInputs(cfg, skeleton, weights, run.results, tuple(notices))

    def check_data(self) -> None:
        """UserError where the annotations or images of DATASET.TEST are missing."""
        find_files(self.cfg, build_benchmark(self.cfg).layout, self.cfg.DATASET.TEST, train=False)
