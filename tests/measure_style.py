"""Measure the readability of the code: `python tests/measure_style.py [ROOT]`.

The figures, over lib/ and tools/ (tests are excluded):

- lines of a file and of a function: median / 90th percentile / largest
- public functions with all arguments typed, and with a docstring: percent
- line width: 90th percentile over lines with text
- dense bodies: function bodies of 12 lines or more without a blank or comment line, percent
- operations: calls, operators, comparisons, subscripts, conditions and comprehensions per code
  line of a function (signature included, docstring excluded): median / 90th percentile
- packed assignments: `a, b = x(), y()`, per 1000 lines
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = ("lib", "tools")
LONG_BODY = 12  # lines
OPERATIONS = (
    ast.Call,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Subscript,
    ast.UnaryOp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.Lambda,
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    """Raw counts of a tree; `summary` turns them into the table."""

    file_lines: list[int] = field(default_factory=list)
    function_lines: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    operations_per_line: list[float] = field(default_factory=list)
    public_functions: int = 0
    typed: int = 0
    documented: int = 0
    long_bodies: int = 0
    dense_bodies: int = 0
    packed_assignments: int = 0

    def summary(self) -> dict[str, float]:
        """The figures by name."""
        lines = sum(self.file_lines)
        return {
            "files": len(self.file_lines),
            "lines": lines,
            "file_median": statistics.median(self.file_lines),
            "file_p90": _percentile(self.file_lines, 90),
            "file_max": max(self.file_lines),
            "function_median": statistics.median(self.function_lines),
            "function_p90": _percentile(self.function_lines, 90),
            "function_max": max(self.function_lines),
            "typed_percent": 100 * self.typed / self.public_functions,
            "docstring_percent": 100 * self.documented / self.public_functions,
            "width_p90": _percentile(self.widths, 90),
            "dense_body_percent": 100 * self.dense_bodies / max(self.long_bodies, 1),
            "operations_median": statistics.median(self.operations_per_line),
            "operations_p90": _percentile(self.operations_per_line, 90),
            "packed_per_1000": 1000 * self.packed_assignments / lines,
        }


def measure(root: Path) -> dict[str, float]:
    """The figures of the tree at `root`."""
    figures = Figures()
    for path in python_files(root):
        _measure_file(path.read_text(), figures)
    return figures.summary()


def python_files(root: Path) -> list[Path]:
    """The modules that are measured."""
    return [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods, inner ones included."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def is_packed(node: ast.AST) -> bool:
    """Whether several assignments stand in one statement: `a, b = x(), y()`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return len(node.value.elts) > 1 and any(isinstance(t, ast.Tuple) for t in node.targets)


def is_dense(function: Function, spaced_lines: set[int]) -> bool:
    """Whether no blank or comment line separates the statements of the body."""
    first, last = body_span(function)
    return not any(line in spaced_lines for line in range(first, last + 1))


def body_span(function: Function) -> tuple[int, int]:
    """First and last line of the body, the docstring excluded."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return function.end_lineno or function.lineno, 0
    return body[0].lineno, function.end_lineno or function.lineno


def spaced_lines(text: str) -> set[int]:
    """Numbers of the lines that are blank or hold a comment alone."""
    lines = text.splitlines()
    return {
        number
        for number, line in enumerate(lines, start=1)
        if not line.strip() or line.lstrip().startswith("#")
    }


def _measure_file(text: str, figures: Figures) -> None:
    tree = ast.parse(text)
    lines = text.splitlines()
    figures.file_lines.append(len(lines))
    figures.widths += [len(line) for line in lines if line.strip()]

    figures.packed_assignments += sum(is_packed(node) for node in ast.walk(tree))
    spaced = spaced_lines(text)
    for function in functions(tree):
        _measure_function(function, spaced, figures)


def _measure_function(function: Function, spaced: set[int], figures: Figures) -> None:
    figures.function_lines.append((function.end_lineno or 0) - function.lineno + 1)

    first, last = body_span(function)
    code_lines = _count_code_lines(function, spaced)
    if last >= first:
        figures.operations_per_line.append(_count_operations(function) / code_lines)
    if last - first + 1 >= LONG_BODY:
        figures.long_bodies += 1
        figures.dense_bodies += is_dense(function, spaced)

    if not function.name.startswith("_"):
        figures.public_functions += 1
        figures.typed += _is_typed(function)
        figures.documented += ast.get_docstring(function) is not None


def _is_typed(function: Function) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    names = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    return function.returns is not None and all(argument.annotation for argument in names)


def _count_code_lines(function: Function, spaced: set[int]) -> int:
    """Lines of a function that hold code: no docstring, blank or comment lines."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1)) - spaced
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(lines)


def _count_operations(function: Function) -> int:
    nodes = (node for statement in function.body for node in ast.walk(statement))
    return sum(isinstance(node, OPERATIONS) for node in nodes)


def _percentile(values: list[int] | list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def main(arguments: list[str]) -> int:
    """Print the figures of a tree, by default this one."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1]
    for name, value in measure(root).items():
        print(f"{name:20} {value:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
