"""Each worked example of CONTRIBUTING.md, carried out in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[1]
CODE = r"```python\n(.*?)```"
CREATE = rf"Create `([^`]+)`:\n\n{CODE}"
REPLACE = rf"In `([^`]+)` replace\n\n{CODE}\n\nwith\n\n{CODE}"
EDIT = re.compile(f"{CREATE}|{REPLACE}", re.DOTALL)

LOSS_CHECK = """
from duopose.config import load_config
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.synthetic_data import synthetic_batch
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.datasets.transforms import normalise

cfg = load_config(None, ["MODEL.WIDTH", 8, "MODEL.STEM_CHANNELS", 8, "MODEL.MODULES", [1, 1, 1]])
batch = synthetic_batch(COCO, 2, 3, 64)
output = build_network(cfg, COCO)(normalise(batch.images))
terms = build_criterion(cfg, COCO)(output, build_targets(cfg, COCO)(batch))
terms.total.backward()
assert terms.per_image["{term}"].shape == (2,) and (terms.per_image["{term}"] > 0).any()
"""
BACKBONE_CHECK = """
import torch
from duopose.config import load_config
from duopose.network import build_network
from duopose.skeletons import COCO

cfg = load_config(None, ["MODEL.BACKBONE", "plain", "MODEL.WIDTH", 8])
output = build_network(cfg, COCO)(torch.rand(1, 3, 64, 64))
assert output.heatmaps[1].shape == (1, 18, 32, 32)
"""
DATASET_CHECK = """
from duopose.benchmarks import build_benchmark
from duopose.config import load_config

settings = ["DATASET.DATASET", "ochuman", "DATASET.SKELETON", "coco"]
benchmark = build_benchmark(load_config(None, settings))
assert benchmark.headline == "AP"
"""
GROUPING_CHECK = """
from duopose.decode.evidence import UNARY_TERMS

assert [term.__name__ for term in UNARY_TERMS][-1] == "length_term"
"""


class Example(NamedTuple):
    """A section of CONTRIBUTING.md, the files it may touch, and what must hold afterwards."""

    title: str
    max_files: int
    check: str
    tests: str = ""  # tests of the tree that must pass too


EXAMPLES = (
    Example("Add a loss term", 3, LOSS_CHECK.replace("{term}", "tag_size")),
    Example("Add a head", 6, LOSS_CHECK.replace("{term}", "foreground")),
    Example("Add a backbone", 2, BACKBONE_CHECK),
    Example("Add a data set", 1, DATASET_CHECK),
    Example("Add a grouping rule", 2, GROUPING_CHECK, "tests/decode/test_round_trip.py"),
)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_example(example: Example, tmp_path: Path) -> None:
    copy = tmp_path / "duopose"
    for folder in ("lib", "tests"):
        shutil.copytree(PROJECT / folder, copy / folder)
    shutil.copy(PROJECT / "pyproject.toml", copy)

    changed = carry_out(section(example.title), copy)
    assert 0 < len(changed) <= example.max_files
    run(copy, "-c", example.check)
    if example.tests:
        run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", example.tests)


def section(title: str) -> str:
    """The text of a section, without its heading."""
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def carry_out(text: str, root: Path) -> set[str]:
    """Apply the edits of a section; the paths changed. Each replaced text must stand there once."""
    changed = set()
    for created, content, edited, old, new in EDIT.findall(text):
        path = created or edited
        if created:
            (root / path).write_text(content)
        else:
            before = (root / path).read_text()
            assert before.count(old.rstrip()) == 1, f"{path}: {old}"
            (root / path).write_text(before.replace(old.rstrip(), new.rstrip()))
        changed.add(path)
    return changed


def run(root: Path, *arguments: str) -> None:
    """Run Python on the copy."""
    environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], cwd=root, env=environment, check=True)
