"""A training whose backbone keeps its weights (docs/fine_tuning.md).

python docs/examples/frozen_backbone.py FILE.yaml NAME [KEY VALUE ...]
"""

from __future__ import annotations

import sys

from yacs.config import CfgNode

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch
from duopose.errors import UserError
from duopose.run_folder import RunFolder
from duopose.runtime import setup_console_logging
from duopose.training.file_checks import check_files
from duopose.training.run import Options, run_training
from duopose.training.setup import Components, build_components


def build_frozen(cfg: CfgNode, context: DistributedContext, folder: RunFolder) -> Components:
    """The usual components; the optimizer takes only parameters that require gradients."""
    components = build_components(cfg, context, folder)
    components.network.get_submodule("backbone").requires_grad_(False)
    return components


def work(context: DistributedContext, cfg: CfgNode, options: Options) -> int:
    """What each rank does."""
    setup_console_logging(context.is_main_process)
    return run_training(cfg, options, context, build_frozen)


def main(arguments: list[str]) -> int:
    """Train; returns an `ExitCode`."""
    if len(arguments) < 2:
        raise UserError("give the yaml, a name for the run, and any KEY VALUE")
    config, name, *overrides = arguments
    cfg = load_config(config, overrides)
    options = Options(config, name=name)
    folder = RunFolder.from_config(cfg, options.config, options.name)
    for notice in check_files(cfg, options, folder, overrides):
        print(f"notice: {notice}", flush=True)
    return launch(work, cfg.GPUS, cfg.DEVICE, (cfg, options))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
