"""The commands `python tools/X.py ...` of a page, and what the tool's own parser makes of them."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from duopose.config import load_config

PROJECT = Path(__file__).resolve().parents[1]
# Up to the end of the line, of the inline code, or of a table's cell.
COMMAND = re.compile(r"(?:python3?|torchrun[^\n`|]*?|srun[^\n`|]*?)\s+tools/(\w+)\.py\b([^\n`|]*)")
# A tool alone in inline code is a mention, not a command.
INLINE = re.compile(r"`tools/(\w+)\.py ([^`]+)`")
COMMENT = re.compile(r"\s#.*$")
OPTIONAL = re.compile(r"\[(--[^\]]*)\]")  # [--images N] in a line of usage
SETTINGS_HERE = re.compile(r"\[?KEY VALUE(?: \.\.\.)?\]?")
NUMBER_HERE = re.compile(r"(?<=\s)[NS](?=\s|$)")
# Files that stand for the reader's own.
OWN_YAML = {"X.yaml", "FILE.yaml", "my.yaml", "YOUR.yaml", "STUDY.yaml", "RUN/config.yaml"}
OWN_YAML |= {"my_skeleton.yaml", "data/mine/data.yaml"}
OUR_SKELETON = str(PROJECT / "docs/examples/six_keypoints.yaml")


class Parsed(BaseException):
    """Ends a tool after its command line was parsed; no tool catches it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.arguments = arguments


def commands_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Tool and words of each command of a page."""
    joined = text.replace("\\\n", " ")
    for name, rest in [*COMMAND.findall(joined), *INLINE.findall(joined)]:
        line = COMMENT.sub("", rest)
        line = OPTIONAL.sub(r"\1", SETTINGS_HERE.sub("", line))
        line = line.replace("--format FORMAT", "--format onnx").replace("--cfg ...", "--cfg X")
        line = NUMBER_HERE.sub("1", line.replace("...", "").replace("[FOLDER ]", "FOLDER"))
        yield name, [word for word in shlex.split(line) if word not in ("&", "\\")]


def problem_of(name: str, words: list[str], patch: pytest.MonkeyPatch) -> str:
    """Why a command cannot work, '' where it can: tool, options, settings, yaml files."""
    if not (PROJECT / "tools" / f"{name}.py").is_file():
        return f"there is no tool {name}"
    missing = [word for word in words if is_missing_yaml(word)]
    if missing:
        return f"there is no {missing[0]}"
    try:
        arguments = parsed(name, words, patch)
    except SystemExit:
        return "its parser refuses the command"
    return settings_problem(name, arguments)


def is_missing_yaml(word: str) -> bool:
    """Whether a word names a yaml of the repository that is not there."""
    is_yaml = word.endswith((".yaml", ".yml"))
    return is_yaml and word not in OWN_YAML and not (PROJECT / word).is_file()


def parsed(name: str, words: list[str], patch: pytest.MonkeyPatch) -> argparse.Namespace:
    """The arguments as the tool itself parses them; SystemExit where it refuses them."""
    module = load_tool(name)
    for method in ("parse_args", "parse_intermixed_args"):
        patch.setattr(argparse.ArgumentParser, method, stopping(method))
    patch.setattr(sys, "argv", [f"{name}.py", *words])
    main: Any = module.main
    try:
        main(*([words] if main.__code__.co_argcount else []))
    except Parsed as ended:
        return ended.arguments
    finally:
        patch.undo()
    raise AssertionError(f"{name} {words}: main() ended without parsing its words")


def stopping(method: str) -> Any:
    """A method of ArgumentParser that raises `Parsed` with its result."""
    original: Any = getattr(argparse.ArgumentParser, method)

    def parse(parser: argparse.ArgumentParser, *args: Any, **options: Any) -> None:
        raise Parsed(original(parser, *args, **options))

    return parse


@cache
def load_tool(name: str) -> ModuleType:
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", PROJECT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings_problem(name: str, arguments: argparse.Namespace) -> str:
    """What `load_config` says about the KEY VALUE words, on top of the yaml if it is ours."""
    words = list(getattr(arguments, "opts", ()))
    if name == "predict":
        _, words = load_tool("predict").split_words(arguments.words)
    if getattr(arguments, "compare", ()):
        words = []  # paths
    words = [OUR_SKELETON if word in OWN_YAML else word for word in words]

    given = PROJECT / str(getattr(arguments, "cfg", "") or "X.yaml")
    try:
        load_config(given if given.is_file() else None, words)
    except ValueError as error:
        return str(error)
    return ""
