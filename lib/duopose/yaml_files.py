"""Reading yaml of others: settings, skeletons, studies; also the settings inside weight files.

Plain values, lists and mappings alone, with bounds on bytes, depth, and values when all aliases are
written out. Words that yaml 1.1 reads as other numbers than they look (010 is 8, 1:30 is 90), and
dates, stay text. A key that is given twice with two values is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from duopose.errors import UserError
from duopose.json_files import read_text_file

MAX_BYTES = 512 * 2**10  # our recipes have 2 kB
MAX_VALUES = 20_000
MAX_DEPTH = 20
MAX_DIGITS = 100  # characters of a number

_TAG = "tag:yaml.org,2002:"
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_WORDS = ("bool", "null", "merge")
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_WHOLE_NUMBER = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_NUMBER = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN))$"
)


def read_yaml_file(path: str | Path, what: str) -> Any:
    """The content of a yaml file in UTF-8; UserError naming file, `what` it is, and the line."""
    content = read_text_file(path, what, MAX_BYTES, advice="")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} '{path}' is not valid yaml: it is not in UTF-8") from error
    return parse_yaml(text, f"{what} '{path}'")


def parse_yaml(text: object, where: str) -> Any:
    """The content of yaml text; UserError beginning with `where`.

    text: what a file holds in the place of the yaml; an error where it is no text.
    """
    if not isinstance(text, str):
        raise UserError(f"{where} is not valid yaml: it is a {type(text).__name__}, not text")
    if len(text) > MAX_BYTES:
        raise UserError(f"{where} is too long: {len(text)} characters, the limit is {MAX_BYTES}")
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where} is not valid yaml: {error.problem}{line}") from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"{where} is not valid yaml: {reason}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds; composing is streaming, so that it stops at the first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0  # with aliases written out
        self._depth = 0
        self._deepest = 0  # depth reached since the surrounding value began
        # Of each complete value, by its id: values in it, and levels below it.
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value, counted."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            node: Any = super().compose_node(parent, index)
            if id(node) not in self._extents:
                raise _problem(f"'*{event.anchor}' refers to what it is a part of", event)
            values, levels = self._extents[id(node)]
            self._count(values, levels + 1, event)
            return node

        values_before = self._values
        surrounding = self._deepest
        self._depth += 1
        self._deepest = self._depth
        self._count(1, 0, event)
        node = super().compose_node(parent, index)
        self._check_number(node)
        self._extents[id(node)] = (self._values - values_before, self._deepest - self._depth)
        self._depth -= 1
        self._deepest = max(surrounding, self._deepest)
        return node

    def _count(self, values: int, levels: int, event: Any) -> None:
        self._values += values
        self._deepest = max(self._deepest, self._depth + levels)
        if self._values > MAX_VALUES:
            raise _problem(f"it has more than {MAX_VALUES} values, aliases written out", event)
        if self._deepest > MAX_DEPTH:
            raise _problem(f"it has more than {MAX_DEPTH} lists or mappings in each other", event)

    def _check_number(self, node: Any) -> None:
        if node.tag in _NUMBERS and len(str(node.value)) > MAX_DIGITS:
            raise _problem(f"a number has more than {MAX_DIGITS} digits", node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping; an error where a key is repeated with another value."""
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[tuple[str, Any], Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        first = seen.setdefault((key.tag, key.value), value)
        is_same = isinstance(value, yaml.ScalarNode) and isinstance(first, yaml.ScalarNode)
        if first is not value and not (is_same and first.value == value.value):
            raise _problem(f"the key '{str(key.value)[:60]}' is there twice", key)


def _problem(text: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=at.start_mark)


def _set_up() -> None:
    """The kinds of values that are read, and which words are no text."""
    _Loader.yaml_constructors = {}
    _Loader.yaml_implicit_resolvers = {}
    for kind in _KINDS:
        constructor = yaml.SafeLoader.yaml_constructors[f"{_TAG}{kind}"]
        _Loader.add_constructor(f"{_TAG}{kind}", constructor)
    _Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)  # type: ignore[type-var]

    for character, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
        kept = [
            pair for pair in resolvers if pair[0].removeprefix(_TAG) in ("bool", "null", "merge")
        ]
        _Loader.yaml_implicit_resolvers[character] = kept
    _Loader.add_implicit_resolver(f"{_TAG}int", _WHOLE_NUMBER, list("-+0123456789"))
    _Loader.add_implicit_resolver(f"{_TAG}float", _NUMBER, list("-+0123456789."))


_set_up()
