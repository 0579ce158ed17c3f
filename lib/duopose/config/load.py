"""From a yaml and `KEY VALUE` overrides to one checked, frozen tree of settings.

Pure: nothing global is changed and derived values are never written back. All mistakes are reported together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from duopose.config.compat import translate
from duopose.config.defaults import default_config
from duopose.config.merge import merge
from duopose.config.validate import validate
from duopose.errors import UserError


def load_config(path: str | Path | None, overrides: Sequence[Any] = ()) -> CfgNode:
    """The settings of a run: defaults, then the yaml at `path` (None: defaults alone), then overrides, then checks.

    overrides: a flat sequence KEY, VALUE, KEY, VALUE ...; a value may be a string as typed on the command line.
    Returns a fresh frozen CfgNode. Raises UserError with every mistake found, each naming its key.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        settings |= flatten(read_yaml(Path(path)))
    settings |= dict(_pairs(overrides))
    translated, problems = translate(settings)
    cfg = default_config()
    problems += merge(cfg, translated)
    if not problems:
        problems += validate(cfg)
    if problems:
        where = f"{path}" if path is not None else "the settings"
        raise UserError(
            f"{where}: {len(problems)} problem(s) in the settings:\n"
            + "\n".join(f"  - {p}" for p in problems)
        )
    cfg.freeze()
    return cfg


def config_text(cfg: CfgNode) -> str:
    """The settings as yaml text that `load_config` reads back."""
    return str(cfg.dump())


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file; UserError where it is a Python file, missing, or not a mapping."""
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"config '{path}' must be a .yaml file; Python files are refused because reading one would execute it"
        )
    if not path.is_file():
        raise UserError(
            f"config '{path}' does not exist (current folder: {Path.cwd()}); the recipes are under experiments/"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config '{path}' is not valid yaml: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"config '{path}' must be a mapping of settings, e.g. 'TRAIN: {{LR: 0.001}}'; found {type(content).__name__}"
        )
    return content


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'A': {'B': 1}} -> {'A.B': 1}; an empty mapping stays a value, so that a mistyped section is seen."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _pairs(overrides: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    if len(overrides) % 2:
        raise UserError(
            f"overrides must be KEY VALUE pairs, got {len(overrides)} words: {' '.join(map(str, overrides))}"
        )
    for key, value in zip(overrides[::2], overrides[1::2]):
        yield str(key), parse_value(value)


def parse_value(value: Any) -> Any:
    """A command-line word as Python literal ('1e-3' -> 0.001, '[1,2]' -> list, 'True' -> True), else the word itself."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
