"""From a yaml and `KEY VALUE` overrides to one checked, frozen tree of settings.

defaults <- yaml <- overrides, old keys translated (`compat.py`), types converted, values checked
(`config_problems`). Nothing global is changed. All mistakes are reported together, each with its
key, the value and what is allowed. The checks of single values are in their declarations.
"""

from __future__ import annotations

import ast
import difflib
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose.config.build import get_setting, skeleton_name
from duopose.config.compat import RENAMED_KEYS, translate
from duopose.config.settings import SETTINGS, default_config
from duopose.errors import UserError, counted
from duopose.skeletons import Skeleton, get_skeleton
from duopose.yaml_files import parse_yaml, read_yaml_file

# What people write for True and False; yaml reads some of these words as switches already.
MAX_WORD_LENGTH = 1000  # of a word that may be a number or a list
MAX_TEXT_LENGTH = 4096  # characters of a path, as on Linux
NO_LINE_OF_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, surrogates
MAX_LIST_LENGTH = 1000
MAX_WHOLE_NUMBER = 2**63 - 1
MAX_PROBLEMS = 50  # that are listed
MAX_PROBLEM_LENGTH = 1000
SHOWN_CHARACTERS = 100  # of a wrong value in a message
SWITCH_WORDS = {"yes": True, "on": True, "1": True, "no": False, "off": False, "0": False}


def load_config(path: str | Path | None, overrides: Sequence[Any] = ()) -> CfgNode:
    """The settings of a run: defaults, then the yaml at `path` (None: defaults alone), overrides.

    overrides: a flat sequence KEY, VALUE, KEY, VALUE ...; a value may be a string as typed on the
    command line, and KEY, VALUE may be one word KEY=VALUE. Returns a fresh frozen CfgNode.
    UserError with every mistake, each naming its key and whether it is in the yaml or an override.
    """
    if path is None:
        return _resolve({}, overrides, "the settings")
    tree = read_yaml(Path(path))
    return _resolve(tree, overrides, str(path))


def config_from_text(
    text: str,
    overrides: Sequence[Any] = (),
    source: str = "the saved settings",
    skeleton: Skeleton | None = None,
) -> CfgNode:
    """`load_config` of settings written by `config_text`, e.g. those in a model file.

    source: names the file in errors. skeleton: the one saved with the settings, so that the yaml
    named by DATASET.SKELETON is not needed.
    """
    tree = _mapping(parse_yaml(text, source), source)
    return _resolve(tree, overrides, source, skeleton)


def config_text(cfg: CfgNode) -> str:
    """The settings as yaml text that `load_config` reads back."""
    return str(cfg.dump())


def saved_settings(text: str) -> dict[str, Any]:
    """The settings in a checkpoint's config text as {"SECTION.KEY": value} in today's keys.

    Settings that did not exist when it was written have their default. Values are not checked:
    paths that were valid then may be gone. UserError where the text is no mapping.
    """
    source = "the saved settings"
    return _in_todays_keys(_mapping(parse_yaml(text, source), source), source)


def read_saved_settings(path: Path) -> dict[str, Any]:
    """`saved_settings` of the config.yaml of a run; UserError also where it cannot be read."""
    return _in_todays_keys(read_yaml(path), str(path))


def _in_todays_keys(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    saved, _ = translate(_flatten_file(tree, source), {})
    defaults = {key: setting.default for key, setting in SETTINGS.items()}
    return defaults | saved


def _resolve(
    tree: Mapping[str, Any],
    overrides: Sequence[Any],
    source: str,
    skeleton: Skeleton | None = None,
) -> CfgNode:
    in_file = _flatten_file(tree, source)
    in_overrides = _override_pairs(overrides)
    settings, problems = translate(in_file, in_overrides)
    cfg = default_config()
    problems += _merge(cfg, settings)
    if not problems:
        problems = config_problems(cfg, skeleton)
    if problems:
        raise UserError(_describe_problems(problems, source, in_file, in_overrides))
    cfg.freeze()
    return cfg


def _describe_problems(
    problems: Sequence[str],
    source: str,
    in_file: Mapping[str, Any],
    in_overrides: Mapping[str, Any],
) -> str:
    """All problems, each blamed on the overrides or on the file, whichever has its key."""
    today = {RENAMED_KEYS.get(key, key) for key in in_overrides}
    given = today | set(in_overrides)
    blamed = [problem.partition(":")[0] in given for problem in problems]

    count = counted(len(problems), "problem")
    if all(blamed) or not in_file:
        where = [""] * len(problems)
        head = f"{count} in the settings given as KEY VALUE"
    else:
        where = [" (given as KEY VALUE)" if is_override else "" for is_override in blamed]
        head = f"{source}: {count} in the settings"
    pairs = list(zip(problems, where, strict=True))
    lines = [f"  - {_shortened(problem)}{place}" for problem, place in pairs[:MAX_PROBLEMS]]
    if len(pairs) > MAX_PROBLEMS:
        lines.append(f"  and {len(pairs) - MAX_PROBLEMS} more")
    return "\n".join([f"{head}:", *lines])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file; UserError where it is a Python file, missing, or no mapping."""
    if os.path.isdir(path):
        raise UserError(f"config '{path}' is a folder; give the yaml in it, e.g. config.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"config '{path}' must be a .yaml file; Python files are refused because reading one "
            "would execute it"
        )
    if not os.path.lexists(path):
        raise UserError(
            f"config '{path}' does not exist (current folder: {Path.cwd()}); the recipes are under "
            "experiments/"
        )

    return _mapping(read_yaml_file(path, "config"), f"config '{path}'")


def _mapping(content: Any, where: str) -> dict[str, Any]:
    """The content, if it is a mapping; else UserError."""
    if not isinstance(content, dict):
        raise UserError(
            f"{where} must be a mapping of settings, e.g. 'TRAIN: {{LR: 0.001}}'; found "
            f"{type(content).__name__}"
        )
    return content


def _flatten_file(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    try:
        return flatten(tree)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'A': {'B': 1}} -> {'A.B': 1}.

    An empty mapping stays a value, so that a section without content is reported. UserError where
    a key is there twice, as 'A.B' and inside 'A', with two values.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        is_section = isinstance(value, Mapping) and value
        new = flatten(value, f"{name}.") if is_section else {name: value}
        repeated = [name for name in new if name in flat and flat[name] != new[name]]
        if repeated:
            raise UserError(f"the key {repeated[0]} is there twice, with two values")
        flat |= new
    return flat


def _override_pairs(overrides: Sequence[Any]) -> dict[str, Any]:
    """{KEY: value} of KEY, VALUE, KEY=VALUE ...; UserError where a value is missing."""
    pairs: dict[str, Any] = {}
    words = iter(overrides)
    for word in words:
        key, equals_sign, attached = str(word).partition("=")
        value: Any = attached if equals_sign else next(words, None)
        if value is None:
            raise UserError(
                f"settings must be given as KEY VALUE or KEY=VALUE pairs, but '{word}' has no "
                f"value: {' '.join(map(str, overrides))}"
            )
        pairs[key] = parse_value(value)
    return pairs


def override_keys(overrides: Sequence[Any]) -> set[str]:
    """Today's keys of the settings that are given as KEY VALUE or KEY=VALUE."""
    return {RENAMED_KEYS.get(key, key) for key in _override_pairs(overrides)}


def parse_value(value: Any) -> Any:
    """A command-line word as Python literal ('1e-3' -> 0.001, 'True' -> True), else the word."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if len(value) > MAX_WORD_LENGTH:
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of escapes in texts
            literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
    is_plain = isinstance(literal, bool | int | float | str | list | tuple | dict | None)
    return literal if is_plain else value


def _merge(cfg: CfgNode, settings: Mapping[str, Any]) -> list[str]:
    """Write dotted `settings` into `cfg` in place; one sentence per key that does not fit."""
    problems: list[str] = []
    for key, value in settings.items():
        if key not in SETTINGS:
            many = len(problems) >= MAX_PROBLEMS  # to look for near names takes milliseconds
            problems.append(f"{key}: there is no such setting" if many else _unknown_key(key))
            continue

        section, _, name = key.rpartition(".")
        node = cfg[section] if section else cfg
        try:
            node[name] = convert(value, SETTINGS[key].default)
        except TypeError as error:
            expected, _, hint = str(error).partition(";")
            hint = f";{hint}" if hint else ""
            problems.append(
                f"{key}: {expected}, got {_shown(value)} ({type(value).__name__}){hint}"
            )
    return problems


def _shortened(problem: str) -> str:
    """Without the middle of a long value."""
    half = MAX_PROBLEM_LENGTH // 2
    if len(problem) <= MAX_PROBLEM_LENGTH:
        return problem
    return f"{problem[:half]} ... {problem[-half:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def convert(value: Any, default: Any) -> Any:
    """`value` in the type of `default`, if that loses nothing (1 -> 1.0, '1e-3' -> 0.001).

    Raises TypeError saying what was expected.
    """
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        meant = SWITCH_WORDS.get(str(value).lower())
        hint = "" if meant is None else f"; did you mean {meant}?"
        raise TypeError(f"expected True or False{hint}")

    if isinstance(default, list):
        return _to_list(value, default)
    if isinstance(default, float):
        return _to_float(value)
    if isinstance(default, int):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and abs(value) <= MAX_WHOLE_NUMBER:
            return value
        raise TypeError("expected a whole number" + (" below 2^63" if is_whole else ""))

    if isinstance(value, str):
        if len(value) > MAX_TEXT_LENGTH or NO_LINE_OF_TEXT.search(value):
            raise TypeError(f"expected one line of text, at most {MAX_TEXT_LENGTH} characters")
        return value
    if value is None:  # KEY: without a value in yaml
        return ""
    raise TypeError("expected text")


def _to_list(value: Any, default: list[Any]) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError("expected a list such as [1, 2]")
    if len(value) > MAX_LIST_LENGTH:
        raise TypeError(f"expected a list of at most {MAX_LIST_LENGTH} values")
    element = default[0]
    return [convert(item, element) for item in value]


def _to_float(value: Any) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):  # yaml reads 1e-3 (without a point) as text
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise TypeError("expected a number")


def _unknown_key(key: str) -> str:
    """The problem of a key that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(key.upper(), SETTINGS, n=1, cutoff=0.5)
    if not near:  # the right name in the wrong section, or without one
        by_name = {valid.rpartition(".")[2]: valid for valid in SETTINGS}
        name = key.upper().rpartition(".")[2]
        names = difflib.get_close_matches(name, by_name, n=1, cutoff=0.6)
        near = [by_name[found] for found in names]

    hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists all keys"
    return f"{key}: there is no such setting; {hint}"


# ---- checks of the merged settings, before any data is opened ----


def config_problems(cfg: CfgNode, skeleton: Skeleton | None = None) -> list[str]:
    """One sentence per setting whose value cannot work; an empty list if all are valid.

    skeleton: the one in use, if it does not come from DATASET.SKELETON.
    """
    return [*_invalid_values(cfg), *_model_problems(cfg), *_data_problems(cfg, skeleton)]


def _invalid_values(cfg: CfgNode) -> Iterator[str]:
    """Values that are not finite or not accepted by the check of their declaration."""
    for key, setting in SETTINGS.items():
        value = get_setting(cfg, key)
        if not _is_finite(value):
            yield f"{key}: {value} is not a finite number"
            continue

        problem = setting.problem(value)
        if problem:
            yield problem


def _is_finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _model_problems(cfg: CfgNode) -> Iterator[str]:
    """Settings of the network and of training that are valid alone and wrong together."""
    model, train = cfg.MODEL, cfg.TRAIN
    if model.NAME == "pose_higher_hrnet_de" and model.WIDTH % 4:
        yield (
            f"MODEL.WIDTH: {model.WIDTH} must be a multiple of 4, for the bottlenecks of Double "
            "Embedding's heads"
        )
    if model.NAME == "pose_higher_hrnet" and model.REVERSE_OFFSETS:
        yield (
            "MODEL.REVERSE_OFFSETS: the baseline pose_higher_hrnet has no offset maps; use "
            "MODEL.NAME pose_higher_hrnet_de"
        )

    if train.BEGIN_EPOCH >= train.END_EPOCH > 0 and not train.END_STEP:
        yield (
            f"TRAIN.BEGIN_EPOCH: {train.BEGIN_EPOCH} leaves no epoch to train; TRAIN.END_EPOCH is "
            f"{train.END_EPOCH}"
        )


def _data_problems(cfg: CfgNode, skeleton: Skeleton | None) -> Iterator[str]:
    """Settings of the data set that are valid alone and wrong together, and unknown skeletons."""
    data = cfg.DATASET
    if data.MIN_SCALE > data.MAX_SCALE:
        yield (
            f"DATASET.MIN_SCALE: {data.MIN_SCALE} is larger than DATASET.MAX_SCALE {data.MAX_SCALE}"
        )

    try:
        if skeleton is None:
            get_skeleton(skeleton_name(cfg))
    except UserError as error:
        key = "DATASET.SKELETON" if data.SKELETON else "DATASET.DATASET"
        yield f"{key}: {error}"
