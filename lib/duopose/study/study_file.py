"""A study file: variants of one recipe, each with several seeds.

title, notes: plain text for the report
recipe:       the yaml that all variants start from
overrides:    settings of all variants, e.g. {GPUS: 1, THREADS: 1}
seeds:        at least three values of SEED
budget:       epochs: each variant trains as long as its settings say.
              cpu_seconds: each variant trains for as many CPU seconds as the reference of the
              first group (speed.py)
groups:       each makes a table of the report
  title, notes
  variants:   name -> settings; `base: NAME` starts from another variant of the file
  grid:       setting -> values; one variant per combination
  reference:  name of the variant that the others are compared with (default: the first)
  columns:    more columns: a metric of metrics.json, "people 2-4" for the AP over images with
              two to four people, or "hidden 15-25" for the AP over images of which 15 to less
              than 25 percent of the labelled keypoints are hidden
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from duopose.config import load_config
from duopose.config.load import flatten, read_yaml
from duopose.errors import UserError

MIN_SEEDS = 3  # fewer give no useful spread
MAX_VARIANTS = 1000  # of a grid
BUDGETS = ("epochs", "cpu_seconds")
STUDY_KEYS = {"title", "notes", "recipe", "overrides", "seeds", "budget", "groups"}
GROUP_KEYS = {"title", "notes", "reference", "variants", "grid", "columns"}

Settings = dict[str, Any]  # {"SECTION.KEY": value}


@dataclass(frozen=True)
class Variant:
    """A row of a table."""

    name: str
    settings: Settings  # all overrides of the recipe, those of the study included


@dataclass(frozen=True)
class Group:
    """A table of the report."""

    title: str
    notes: str
    reference: str
    variants: tuple[Variant, ...]
    columns: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


@dataclass(frozen=True)
class Study:
    """The content of a study file."""

    name: str  # of the file
    title: str
    notes: str
    recipe: str
    seeds: tuple[int, ...]
    budget: str  # one of BUDGETS
    groups: tuple[Group, ...]

    @property
    def reference(self) -> Variant:
        """The variant whose cost is the budget of all."""
        first = self.groups[0]
        return first.variant(first.reference)


class _GroupFields(TypedDict, total=False):
    """Types of the entries of a group."""

    variants: dict[str | int | float, dict[str, Any] | None] | None
    grid: dict[str, Any] | None
    columns: list[Any] | None


class _StudyFields(TypedDict, total=False):
    """Types of the entries of a study; titles, notes and names become text."""

    recipe: str
    overrides: dict[str, Any] | None
    seeds: list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]]
    groups: list[_GroupFields]


def read_study(path: Path) -> Study:
    """Read and check a study file; UserError where something is missing, unknown or impossible."""
    content = read_yaml(path)
    _check_keys(content, STUDY_KEYS, f"study '{path}'")
    for key in ("recipe", "seeds", "groups"):
        if not content.get(key):
            raise UserError(f"study '{path}' has no '{key}'")
    _check_types(content, path)

    common = flatten(content.get("overrides") or {})
    known: dict[str, Variant] = {}
    groups = [_read_group(group, common, known, path) for group in content["groups"]]
    study = Study(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        notes=str(content.get("notes", "")).strip(),
        recipe=str(content["recipe"]),
        seeds=tuple(content["seeds"]),
        budget=str(content.get("budget", BUDGETS[0])),
        groups=tuple(groups),
    )
    _check_study(study, path)
    return study


def _read_group(
    content: Mapping[str, Any], common: Settings, known: dict[str, Variant], path: Path
) -> Group:
    """One group; its variants are added to `known`, the variants of the whole file by name."""
    title = str(content.get("title", ""))
    _check_keys(content, GROUP_KEYS, f"study '{path}', group '{title}'")
    named = dict(content.get("variants") or {})
    for settings in _combinations(content.get("grid") or {}):
        named[grid_name(settings)] = settings

    variants = []
    for name, own in named.items():
        own_settings = dict(own or {})
        base = own_settings.pop("base", None)
        if base is not None and (not isinstance(base, str) or base not in known):
            raise UserError(
                f"study '{path}', variant '{name}': base '{base}' is not a variant above it"
            )
        start = known[base].settings if base is not None else common
        variant = Variant(str(name), start | flatten(own_settings))
        earlier = known.setdefault(variant.name, variant)
        if earlier != variant:
            raise UserError(f"study '{path}': two different variants have the name '{name}'")
        variants.append(variant)

    if not variants:
        raise UserError(f"study '{path}', group '{title}' has no variants and no grid")
    reference = str(content.get("reference", variants[0].name))
    if reference not in [variant.name for variant in variants]:
        raise UserError(f"study '{path}', group '{title}': reference '{reference}' is no variant")
    return Group(
        title=title,
        notes=str(content.get("notes", "")).strip(),
        reference=reference,
        variants=tuple(variants),
        columns=tuple(map(str, content.get("columns") or ())),
    )


def _combinations(grid: Mapping[str, Any]) -> Iterator[Settings]:
    """One mapping of settings per combination of the grid's values."""
    flat = flatten(grid)
    if not flat:
        return
    no_lists = [key for key, values in flat.items() if not isinstance(values, list)]
    if no_lists:
        raise UserError(f"a grid needs a list of values for '{no_lists[0]}'")
    if math.prod(map(len, flat.values())) > MAX_VARIANTS:
        raise UserError(f"a grid has more than {MAX_VARIANTS} combinations; take fewer values")
    for values in itertools.product(*flat.values()):
        yield dict(zip(flat, values, strict=True))


def grid_name(settings: Settings) -> str:
    """The name of a variant of a grid: 'TAG_SIGMA 0.5, START_THRESHOLD 0.7'."""
    parts = [f"{key.rpartition('.')[2]} {value}" for key, value in settings.items()]
    return ", ".join(parts)


def _check_keys(content: object, allowed: set[str], name: str) -> None:
    if not isinstance(content, Mapping):
        raise UserError(f"{name} must be a mapping")
    unknown = sorted(map(str, set(content) - allowed))
    if unknown:
        raise UserError(f"{name}: unknown {', '.join(unknown)}; allowed: {sorted(allowed)}")


def _check_types(content: Mapping[str, Any], path: Path) -> None:
    try:
        msgspec.convert(content, _StudyFields)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        problem, _, where = str(error).partition(" - at `$.")
        raise UserError(
            f"study '{path}': '{where.rstrip('`')}' is of another form: {problem.lower()}"
        ) from error


def _check_study(study: Study, path: Path) -> None:
    """UserError for too few seeds, an unknown budget, or settings that a recipe does not accept."""
    if study.budget not in BUDGETS:
        raise UserError(f"study '{path}': budget '{study.budget}' is not one of {BUDGETS}")
    if len(set(study.seeds)) < MIN_SEEDS:
        raise UserError(f"study '{path}': seeds {list(study.seeds)}; give at least {MIN_SEEDS}")

    for group in study.groups:
        for variant in group.variants:
            try:
                load_config(study.recipe, setting_words(variant.settings))
            except UserError as error:
                raise UserError(f"study '{path}', variant '{variant.name}': {error}") from error


def setting_words(settings: Settings) -> list[Any]:
    """[KEY, value, KEY, value ...], as `load_config` takes it."""
    return [word for item in settings.items() for word in item]
