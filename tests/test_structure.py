"""The direction of imports, so that each folder can be read alone."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lib" / "duopose"
BASE = {
    "types", "skeletons", "geometry", "errors", "files", "locks", "coco_annotations",
    "skeleton_tables", "skeleton_limbs", "console", "annotation_types", "json_files",
    "regular_files", "image_files", "zip_members", "device_tensors", "yaml_files",
    "limited_process", "mat_files", "json_limit_option", "xml_files",
}  # fmt: skip
MIDDLE = {"datasets", "targets", "network", "losses", "decode", "evaluate", "visualize"}
# These wire the folders below together. Each may import the ones before it; tools call them.
WIRING = (
    "runtime",
    "run_folder",
    "distributed",
    "benchmarks",
    "inference",
    "predict",
    "calibration",
    "training",
    "oracle",
    "profiling",
    "gpu_check",
    "export",
    "study",
    "report",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """First part below `duopose` of everything the file imports, e.g. {'types', 'config'}."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [
                f"{node.module}.{alias.name}" if node.module == "duopose" else node.module
                for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("duopose.")}
    return parts


def allowed_parts(path: Path) -> set[str]:
    """The parts that a file may import."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in BASE:
        return BASE
    if part == "__init__":
        return BASE | {"inference"}
    if part == "config":
        return BASE | {"config"}
    if part in MIDDLE:
        return BASE | {part} | ({"config"} if path.name == "build.py" else set())
    assert part in WIRING, f"lib/duopose/{part} has no place in the import rule; give it one"
    below = set(WIRING[: WIRING.index(part) + 1])
    return BASE | MIDDLE | {"config", "__version__"} | below


def test_no_two_modules_have_one_name() -> None:
    counts = Counter(path.name for path in FILES)
    assert {name for name, count in counts.items() if count > 1} <= {"__init__.py", "build.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    assert imported_parts(path) <= allowed_parts(path)


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.relative_to(PACKAGE).parts[0] in MIDDLE],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_only_build_sees_the_config_and_nothing_below_wiring_the_hardware(path: Path) -> None:
    text = path.read_text()
    if path.name != "build.py":
        assert "yacs" not in text
    assert ".cuda()" not in text and "torch.distributed" not in text


@pytest.mark.parametrize(
    "path", sorted((PACKAGE.parents[1] / "tools").glob("*.py")), ids=lambda path: path.name
)
def test_tools_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 150
