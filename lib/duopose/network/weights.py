"""Loading weights of any of the family's codebases into a network, with a report of what fitted.

Model files of our own are written by `save_model` and read by `read_model_file` (re-exported here).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from duopose.errors import UserError
from duopose.network.key_maps import (
    BACKBONE,
    HIGHER_HRNET,
    PUBLIC_DE,
    group_of,
    is_expected_extra,
    is_expected_gap,
    kind_of,
    to_our_names,
)
from duopose.network.model_file import ModelFile, find_state, read_file, read_model_file, save_model

__all__ = ["LoadReport", "Mismatch", "ModelFile", "load_weights", "read_model_file", "save_model"]

COUNTER = "num_batches_tracked"  # absent from files older than torch 0.4.1; nothing depends on it
_FAMILY_CENTRES = "its heatmaps were taught on floored cells: set DATASET.HEATMAP_CENTRES rounded to decode them without a shift"
NOTICES = {
    PUBLIC_DE: (
        "its offsets are in units of the training map's diagonal: set MODEL.OFFSET_UNIT 724.077 if it was trained at 512 (905.097 at 640)",
        _FAMILY_CENTRES,
    ),
    HIGHER_HRNET: (_FAMILY_CENTRES,),
}


class Mismatch(NamedTuple):
    """A tensor that has one shape in the network and another in the file."""

    name: str
    network: tuple[int, ...]
    file: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} is {self.network} in the network and {self.file} in the file"


@dataclass(frozen=True)
class LoadReport:
    """What of a weight file went into a network; `str()` gives about four lines to print."""

    path: str
    kind: str  # the codebase the file comes from, e.g. "ImageNet HRNet"
    matched: int  # tensors loaded
    total: int  # tensors of the network
    missing: tuple[str, ...]  # of the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not of the network
    mismatched: tuple[Mismatch, ...]
    expected: frozenset[str]  # those of missing and unexpected that the file's kind explains
    notices: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every tensor of the network was loaded, and the file holds no other."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [str(mismatch) for mismatch in self.mismatched]
        lines = [
            f"{self.path} ({self.kind}): {self.matched}/{self.total} tensors of the network loaded",
            f"  missing:         {self._by_group(self.missing)}",
            f"  unexpected:      {self._by_group(self.unexpected)}",
            f"  shapes differ:   {_by_group(m.name for m in self.mismatched)}{_first(shapes)}",
        ]
        return "\n".join([*lines, *(f"  notice: {notice}" for notice in self.notices)])

    def _by_group(self, names: tuple[str, ...]) -> str:
        usual = [name for name in names if name in self.expected]
        strange = [name for name in names if name not in self.expected]
        parts = [f"{_by_group(usual)} (expected of {self.kind} weights)"] if usual else []
        parts += [f"{_by_group(strange)}{_first(strange)}"] if strange else []
        return ", ".join(parts) or "none"


def load_weights(network: nn.Module, path: str | Path, strict: bool = False) -> LoadReport:
    """Load a weight file of HRNet, HigherHRNet, public DE or ours into `network`, in place.

    strict (evaluation): every tensor must be there in its shape, and no other. Otherwise (a start for training) what fits
    is loaded: heads may be missing or of another skeleton, but the backbone's tensors must have the network's shapes.
    Raises UserError when that does not hold, or when the file is missing, damaged, or of something else altogether.
    """
    found = find_state(read_file(path), path)
    kind = kind_of(found)
    state = _with_counters(to_our_names(found, kind), network)
    report = _compare(network, state, str(path), kind)
    _refuse(report, strict)
    loadable = {name: state[name] for name in network.state_dict() if name in state}
    for mismatch in report.mismatched:
        del loadable[mismatch.name]
    network.load_state_dict(loadable, strict=False)
    return report


def _with_counters(state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Add the batch counters that old files lack, as zeros."""
    absent = (name for name in network.state_dict() if name.endswith(COUNTER) and name not in state)
    added = {
        name: torch.tensor(0) for name in absent if name.replace(COUNTER, "running_mean") in state
    }
    return {**state, **added}


def _compare(
    network: nn.Module, state: dict[str, torch.Tensor], path: str, kind: str
) -> LoadReport:
    own = network.state_dict()
    own_groups, file_groups = {group_of(name) for name in own}, {group_of(name) for name in state}
    missing = tuple(name for name in own if name not in state)
    unexpected = tuple(name for name in state if name not in own)
    mismatched = tuple(
        Mismatch(name, tuple(own[name].shape), tuple(state[name].shape))
        for name in own
        if name in state and own[name].shape != state[name].shape
    )
    expected = [name for name in missing if is_expected_gap(name, file_groups)]
    expected += [name for name in unexpected if is_expected_extra(name, own_groups)]
    matched = len(own) - len(missing) - len(mismatched)
    return LoadReport(
        path,
        kind,
        matched,
        len(own),
        missing,
        unexpected,
        mismatched,
        frozenset(expected),
        NOTICES.get(kind, ()),
    )


def _refuse(report: LoadReport, strict: bool) -> None:
    """Raise the sentence that says why a file must not be loaded, if so."""
    backbone = [mismatch for mismatch in report.mismatched if group_of(mismatch.name) == BACKBONE]
    if not report.matched and not report.mismatched:
        raise UserError(
            f"{report.path} holds no tensor of this network; its tensors are called {', '.join(report.unexpected[:4])} ...; "
            "it must come from HRNet, HigherHRNet, public Double Embedding or Duopose"
        )
    if backbone:
        raise UserError(
            f"{report.path} is of another backbone, {len(backbone)} of its tensors have other shapes: {backbone[0]}; "
            "set MODEL.WIDTH (32 for w32, 48 for w48), MODEL.MODULES and MODEL.STEM_CHANNELS as in its training, or take another file"
        )
    if strict and not report.complete:
        raise UserError(
            f"these weights do not fit the network exactly, as evaluation needs; are MODEL.* and DATASET.SKELETON theirs?\n{report}"
        )


def _by_group(names: Iterable[str]) -> str:
    counts = Counter(group_of(name) for name in names)
    return ", ".join(f"{group} {count}" for group, count in counts.items()) or "none"


def _first(items: list[str]) -> str:
    return f" (first: {items[0]})" if items else ""
