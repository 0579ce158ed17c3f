"""The files that a training needs, looked up before any process is started.

Everything here reads little: a mistake shows at once, and not after the ranks have loaded torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.config import build_skeleton
from duopose.config.load import override_keys
from duopose.datasets.build import find_files
from duopose.distributed.context import is_first_process
from duopose.errors import UserError
from duopose.inference.weights_protocol import check_weights
from duopose.locks import FolderLock
from duopose.run_folder import RunFolder
from duopose.training.checkpoint import checkpoint_exists, checkpoint_to_resume
from duopose.training.run import Options


def check_files(
    cfg: CfgNode, options: Options, folder: RunFolder, overrides: Sequence[str]
) -> list[str]:
    """UserError where a file is missing, or another training uses the run folder.

    overrides: KEY VALUE words of the command line. Returns notices about MODEL.PRETRAINED.
    """
    layout = build_benchmark(cfg).layout
    find_files(cfg, layout, cfg.DATASET.TRAIN, train=True)
    if cfg.TRAIN.VAL_EVERY:
        find_files(cfg, layout, cfg.DATASET.TEST, train=False)
    if not options.dry_run and is_first_process():
        FolderLock(folder.lock).check_free()

    resumed = checkpoint_to_resume(folder, options.resume, cfg.AUTO_RESUME)
    if resumed is not None:
        _check_checkpoint(resumed)
    elif cfg.MODEL.PRETRAINED:
        path = Path(cfg.MODEL.PRETRAINED)
        skeleton = build_skeleton(cfg)
        return check_weights(
            cfg, skeleton, path, override_keys(overrides), "MODEL.PRETRAINED", for_training=True
        )
    return []


def _check_checkpoint(path: Path) -> None:
    if not checkpoint_exists(path):
        raise UserError(
            f"--resume: there is no checkpoint {path}; tools/dist_train.py writes checkpoint.pth "
            "into the folder of a run at the end of each epoch"
        )
