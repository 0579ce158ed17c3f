"""The code stays readable: the figures of `measure_style.py`, and the words of the field."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.measure_style import measure, python_files

from duopose.config.compat import RENAMED_KEYS, RENAMED_VALUES

PROJECT = Path(__file__).resolve().parents[1]

# Words that a reader of HigherHRNet, DETR or torchvision does not know in this sense.
WORDS = re.compile(
    r"\b(pictures?|yardsticks?|tolls?|leftovers?|refusals?|spoken|greets?|told|tells?|"
    r"heard|doubts?|taught|listens?|nobody's|anybody's|somebody's|settles?|sweeps?)\b",
    re.IGNORECASE,
)
# Names of earlier versions that are still read, so that they must stand somewhere.
OLD_NAMES = re.compile("|".join([*RENAMED_KEYS, *(f'"{value}"' for _, value in RENAMED_VALUES)]))
# Names of code, as whole identifiers or as parts between underscores.
NAMES = re.compile(
    r"^(Place|Feed|Pace|Parts|Shares|Scene|Search|Found|Telling|GONE|RIGHT|FEWEST|BELIEVED|"
    r"CERTAIN|MANY|inside|outside|secondary|mixed|reach|toll|worth|accept|sure_height|"
    r"outlier_share|settle|sweeps|still_free|add_leftovers|member|chain_order|doubt|onto|heard|"
    r"listen|taught|refusal|refusals_told|_leave_word|yardstick|recomputed|crowd|greet|told|"
    r"tell|say|advise|numbers|gradients_stay_here|confirm|family|place)$"
)
# Pages and strings may say these in their ordinary sense.
PAGES = ("README.md", "CONTRIBUTING.md", "data/README.md", "models/README.md", "docs")


def pages() -> list[Path]:
    """The documents a user reads."""
    found = [PROJECT / name for name in PAGES if (PROJECT / name).is_file()]
    return found + sorted((PROJECT / "docs").rglob("*.md"))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of the comments and strings of a module."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], OLD_NAMES.sub("", token.string)


def public_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and name of functions, classes, arguments, fields and constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((node.lineno, name) for name in names)


@pytest.mark.parametrize(
    ("figure", "bound"),
    [
        ("width_p90", 95),
        ("dense_body_percent", 35),
        ("packed_per_1000", 2),
        ("operations_median", 1.1),
        ("file_max", 400),
    ],
)
def test_figures(figure: str, bound: float) -> None:
    assert measure(PROJECT)[figure] <= bound


def test_number_of_modules() -> None:
    files = (PROJECT / "lib").rglob("*.py")
    modules = [path for path in files if path.name != "__init__.py"]
    assert len(modules) <= 220


@pytest.mark.parametrize(
    "path", python_files(PROJECT), ids=lambda path: str(path.relative_to(PROJECT))
)
def test_code_uses_the_words_of_the_field(path: Path) -> None:
    found = [f"{line}: {match[0]}" for line, text in texts(path) for match in WORDS.finditer(text)]
    found += [f"{line}: {name}" for line, name in public_names(path) if NAMES.match(name)]
    assert not found


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_pages_use_the_words_of_the_field(path: Path) -> None:
    text = OLD_NAMES.sub("", path.read_text())
    lines = enumerate(text.splitlines(), start=1)
    assert not [f"{n}: {m[0]}" for n, line in lines for m in WORDS.finditer(line)]
