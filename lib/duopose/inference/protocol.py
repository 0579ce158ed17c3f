"""The protocol of an evaluation: settings, checksums of weights and data, versions of the code.

It is written beside every result, so that a number can be repeated, and two numbers whose
protocols are the same were made in the same way.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose import __version__
from duopose.benchmarks import build_benchmark
from duopose.config import config_text, saved_settings, skeleton_name
from duopose.config.differences import acts_on_learning
from duopose.datasets.build import find_files
from duopose.errors import UserError
from duopose.evaluate.metrics import read_metrics
from duopose.files import sha256_of_file
from duopose.network.exported_file import file_of_weights, is_exported, read_weight_file
from duopose.skeletons import Skeleton, skeleton_to_dict

PACKAGES = ("torch", "numpy", "opencv-python-headless", "scipy", "pycocotools", "hotcoco")

NOT_KNOWN = "not known"

# TEST.PROTOCOL -> test scales, flip test. The three protocols of the HigherHRNet paper's tables.
PROTOCOLS = {
    "single": ([1.0], False),
    "flip": ([1.0], True),
    "multiscale": ([0.5, 1.0, 2.0], True),
}


def scales_and_flip(cfg: CfgNode) -> tuple[tuple[float, ...], bool]:
    """The test scales, and whether each is run mirrored, too.

    From TEST.PROTOCOL; where it is empty, from TEST.SCALE_FACTOR and TEST.FLIP_TEST.
    """
    own = (cfg.TEST.SCALE_FACTOR, cfg.TEST.FLIP_TEST)
    scales, flip = PROTOCOLS.get(cfg.TEST.PROTOCOL, own)
    return tuple(scales), bool(flip)


def protocol(
    cfg: CfgNode,
    weights: str = "",
    num_images: int | None = None,
    skeleton: Skeleton | None = None,
    network: nn.Module | None = None,
) -> dict[str, Any]:
    """Everything needed to repeat the evaluation, as plain json values.

    weights: path of the weight file; empty: those of a training with these settings.
    skeleton: the one in use, for its keypoints and their order. network: for the checksum of its
    weights, which does not depend on the file that they come from.
    """
    scales, flip = scales_and_flip(cfg)
    file = read_weight_file(weights) if weights else {}
    return {
        "benchmark": cfg.DATASET.DATASET,
        "skeleton": skeleton_name(cfg) if skeleton is None else skeleton.name,
        "split": cfg.DATASET.TEST,
        "images": num_images,
        "weights": weights,
        "weights_file_sha256": sha256_of_file(weights) if weights else "",
        "weights_sha256": "" if network is None else _weights_checksum(network, weights),
        "calibration": _calibration_checksum(file),
        "model": cfg.MODEL.NAME,
        "input_size": cfg.DATASET.INPUT_SIZE,
        "scales": list(scales),
        "flip": flip,
        "evaluator": cfg.TEST.EVALUATOR,
        "test_settings": dict(cfg.TEST),
        "model_settings": dict(cfg.MODEL),
        "dataset_settings": dict(cfg.DATASET),
        "trained_with": _training_settings(cfg, file) if file or not weights else NOT_KNOWN,
        "skeleton_fields": {} if skeleton is None else skeleton_to_dict(skeleton),
        "mixed_precision": cfg.FP16.DTYPE if cfg.FP16.ENABLED else "off",
        "duopose": __version__,
        "git_commit": git_commit(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _training_settings(cfg: CfgNode, file: Mapping[str, Any]) -> dict[str, Any] | str:
    """Settings that have changed what the network learned: those in its file, else those of cfg."""
    text = file.get("config") if file else config_text(cfg)
    if not isinstance(text, str) or not text:
        return NOT_KNOWN
    settings = saved_settings(text)
    return {key: value for key, value in settings.items() if acts_on_learning(key)}


def training_protocol(cfg: CfgNode, skeleton: Mapping[str, Any]) -> dict[str, Any]:
    """What a run states about itself at its start: `protocol`, with the files it learns from.

    skeleton: as `skeleton_to_dict` returns it.
    """
    pretrained = cfg.MODEL.PRETRAINED
    return protocol(cfg) | {
        "skeleton_fields": dict(skeleton),
        "pretrained_sha256": sha256_of_file(pretrained) if pretrained else "",
        "training_data": data_record(cfg, train=True),
        "test_data": data_record(cfg, train=False),
    }


def scoring_protocol(
    cfg: CfgNode, skeleton: Skeleton, results: Path, annotations: Path
) -> dict[str, Any]:
    """The protocol of numbers from a results file, without a network.

    `made_by` is the protocol in the metrics.json beside the file, if that is of the same results:
    how they were predicted; else 'not known'.
    """
    everything = protocol(cfg, skeleton=skeleton)
    scoring = ("benchmark", "skeleton", "skeleton_fields", "evaluator", "duopose", "packages")
    checksum = sha256_of_file(results)
    return {key: everything[key] for key in scoring} | {
        "results_file": str(results),
        "results_sha256": checksum,
        "annotations": str(annotations),
        "annotations_sha256": sha256_of_file(annotations),
        "limit": cfg.DATASET.LIMIT,
        "git_commit": everything["git_commit"],
        "made_by": _protocol_of_results(results, checksum),
    }


def _protocol_of_results(results: Path, checksum: str) -> dict[str, Any] | str:
    try:
        record = read_metrics(results.with_name("metrics.json"))
    except UserError:
        return NOT_KNOWN
    return record.protocol if record.protocol.get("results_sha256") == checksum else NOT_KNOWN


def data_record(cfg: CfgNode, *, train: bool) -> dict[str, str]:
    """Paths of a split and the checksum of its annotations."""
    split = cfg.DATASET.TRAIN if train else cfg.DATASET.TEST
    try:
        annotations, images = find_files(cfg, build_benchmark(cfg).layout, split, train=train)
    except UserError:  # a training without validation needs no test split
        return {"annotations": NOT_KNOWN, "annotations_sha256": NOT_KNOWN, "images": NOT_KNOWN}
    return {
        "annotations": str(annotations),
        "annotations_sha256": sha256_of_file(annotations),
        "images": str(images.path),
    }


def _weights_checksum(network: nn.Module, path: str) -> str:
    """Of the tensors; of the file where another library has them."""
    if is_exported(path):
        return sha256_of_file(file_of_weights(path))
    return weights_checksum(network)


def weights_checksum(network: nn.Module) -> str:
    """SHA-256 of the names and values of all tensors of a network."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy())
    return digest.hexdigest()


def _calibration_checksum(file: Mapping[str, Any]) -> str:
    """Of the calibration in a model file; the weights do not depend on it."""
    extra = file.get("extra")
    calibration = extra.get("calibration") if isinstance(extra, dict) else None
    if not calibration:
        return "none"
    return hashlib.sha256(repr(calibration).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the code, with '+changes' if files differ from it; 'unknown' without git."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed_files = _git(folder, "status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed_files else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
