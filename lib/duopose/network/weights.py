"""Loading weights of several codebases into a network, with a report of what was loaded.

Names in a network are `backbone.<name in the backbone>` and `heads.<name in the heads>`. Files
of ImageNet networks, HigherHRNet, public Double Embedding and earlier Duopose versions do not have
these prefixes; `translate_state_dict`, the only place where names are changed, adds them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from duopose.errors import UserError
from duopose.network.model_file import StateDict, find_state_dict, read_torch_file

# ---- origins of files ----

DUOPOSE = "Duopose"
PUBLIC_DE = "public Double Embedding"
HIGHER_HRNET = "HigherHRNet"
IMAGENET_HRNET = "ImageNet HRNet"
IMAGENET_RESNET = "ImageNet ResNet"
BACKBONE_ONLY = "backbone"
UNKNOWN = "unknown"

# Groups of tensors, see `group_of`.
BACKBONE = "backbone"
NECK = "neck"
HEADS = ("global_head", "local_head", "final_layers", "deconv_layers")
CLASSIFIERS = ("incre_modules", "downsamp_modules", "final_layer", "classifier", "fc")
PUBLIC_DE_HEADS = {"stem1", "stem2", "final_layers_off", "final_layers_ae"}

# ImageNet's HRNet and single-person networks use all branches after stage 4, so the last module of
# their files has fuse layers for the coarser ones too.
_COARSER_FUSE_LAYERS = re.compile(r"^(?:backbone\.)?stage4\.\d+\.fuse_layers\.[123]\.")

COUNTER = "num_batches_tracked"  # absent from files of torch < 0.4.1; not used in evaluation

_ROUNDED_NOTICE = (
    "its heatmaps were supervised at floored cells: set DATASET.HEATMAP_CENTRES rounded, "
    "or decoded keypoints are shifted"
)
_OFFSET_UNIT_NOTICE = (
    "its offsets are in units of the training map's diagonal: set MODEL.OFFSET_UNIT 724.077 "
    "if it was trained at 512 (905.097 at 640)"
)
NOTICES = {PUBLIC_DE: (_OFFSET_UNIT_NOTICE, _ROUNDED_NOTICE), HIGHER_HRNET: (_ROUNDED_NOTICE,)}


# ---- loading ----


class Mismatch(NamedTuple):
    """A tensor whose shape in the network differs from that in the file."""

    name: str
    network_shape: tuple[int, ...]
    file_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} is {self.network_shape} in the network, {self.file_shape} in the file"


@dataclass(frozen=True)
class LoadReport:
    """What a weight file gave to a network; `str()` is a text of about four lines."""

    path: str
    origin: str  # the codebase the file comes from, e.g. "ImageNet HRNet"
    matched: int  # tensors loaded
    total: int  # tensors of the network
    missing: tuple[str, ...]  # in the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not in the network
    mismatched: tuple[Mismatch, ...]
    expected: frozenset[str]  # the missing and unexpected names that the origin explains
    notices: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every tensor of the network was loaded, and the file has no other."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [str(mismatch) for mismatch in self.mismatched]
        names = [mismatch.name for mismatch in self.mismatched]
        loaded = f"{self.matched}/{self.total} tensors of the network loaded"
        lines = [
            f"{self.path} ({self.origin}): {loaded}",
            f"  missing:         {self._summary(self.missing)}",
            f"  unexpected:      {self._summary(self.unexpected)}",
            f"  shapes differ:   {_count_by_group(names)}{_first(shapes)}",
        ]
        lines += [f"  notice: {notice}" for notice in self.notices]
        return "\n".join(lines)

    def _summary(self, names: tuple[str, ...]) -> str:
        expected = [name for name in names if name in self.expected]
        other = [name for name in names if name not in self.expected]

        parts = []
        if expected:
            parts.append(f"{_count_by_group(expected)} (expected of {self.origin} weights)")
        if other:
            parts.append(f"{_count_by_group(other)}{_first(other)}")
        return ", ".join(parts) or "none"


def load_weights(network: nn.Module, path: str | Path, strict: bool = False) -> LoadReport:
    """Load a weight file of HRNet, ResNet, HigherHRNet, public DE or Duopose, in place.

    strict (for evaluation): the file must have exactly the network's tensors.
    Not strict (to start training): tensors that fit are loaded; heads may be missing or of another
    skeleton, but those of the backbone must have the network's shapes.
    Raises UserError if that does not hold, or if the file is missing, damaged or unrelated.
    """
    file_state = find_state_dict(read_torch_file(path), path)
    state = translate_state_dict(file_state, network)
    state.update(_missing_counters(state, network))

    report = _compare(network, state, str(path), origin_of(file_state, state))
    _raise_if_unfit(report, network, strict)

    mismatched = {mismatch.name for mismatch in report.mismatched}
    loadable = {
        name: state[name]
        for name in network.state_dict()
        if name in state and name not in mismatched
    }
    _check_values(loadable, network, path)
    network.load_state_dict(loadable, strict=False)
    return report


def _missing_counters(state: StateDict, network: nn.Module) -> StateDict:
    """Zeros for the batch counters that old files do not have."""
    counters = {}
    for name in network.state_dict():
        has_statistics = name.replace(COUNTER, "running_mean") in state
        if name.endswith(COUNTER) and name not in state and has_statistics:
            counters[name] = torch.tensor(0)
    return counters


def _check_values(state: StateDict, network: nn.Module, path: str | Path) -> None:
    """UserError where a tensor has NaN or infinite values, or numbers of another kind."""
    own = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() != own[name].is_floating_point() or tensor.is_complex():
            raise UserError(
                f"{path}: '{name}' holds {tensor.dtype}, the network has {own[name].dtype}; the "
                "file is damaged or of another network"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise UserError(
                f"{path}: '{name}' holds values that are NaN or infinite; the training that wrote "
                "it has diverged, or the file is damaged. Use the weights of an earlier epoch"
            )


def _compare(network: nn.Module, state: StateDict, path: str, origin: str) -> LoadReport:
    own = network.state_dict()
    missing = tuple(name for name in own if name not in state)
    unexpected = tuple(name for name in state if name not in own)

    mismatched = []
    for name in own:
        if name in state and own[name].shape != state[name].shape:
            mismatched.append(Mismatch(name, tuple(own[name].shape), tuple(state[name].shape)))

    own_groups = {group_of(name) for name in own}
    file_groups = {group_of(name) for name in state}
    expected = [name for name in missing if _is_expected_missing(name, file_groups)]
    expected += [name for name in unexpected if _is_expected_unexpected(name, own_groups)]

    return LoadReport(
        path=path,
        origin=origin,
        matched=len(own) - len(missing) - len(mismatched),
        total=len(own),
        missing=missing,
        unexpected=unexpected,
        mismatched=tuple(mismatched),
        expected=frozenset(expected),
        notices=NOTICES.get(origin, ()),
    )


def _is_expected_missing(name: str, file_groups: Collection[str]) -> bool:
    """The file is of a network without that head or neck."""
    group = group_of(name)
    return group in (*HEADS, NECK) and group not in file_groups


def _is_expected_unexpected(name: str, own_groups: Collection[str]) -> bool:
    """The tensor belongs to a head or classifier that this network does not have."""
    group = group_of(name)
    of_other_head = group in (*HEADS, *CLASSIFIERS) and group not in own_groups
    return of_other_head or _COARSER_FUSE_LAYERS.match(name) is not None


def _raise_if_unfit(report: LoadReport, network: nn.Module, strict: bool) -> None:
    """UserError if the file must not be loaded into this network."""
    if not report.matched and not report.mismatched:
        first_names = ", ".join(report.unexpected[:4])
        raise UserError(
            f"{report.path} holds no tensor of this network; its tensors are {first_names} ...; it "
            "must come from HRNet, ResNet, HigherHRNet, public Double Embedding or Duopose"
        )

    mismatched = [m for m in report.mismatched if group_of(m.name) == BACKBONE]
    if mismatched:
        raise UserError(
            f"{report.path} is of another backbone, {len(mismatched)} of its tensors have other "
            f"shapes: {mismatched[0]}; set MODEL.BACKBONE, MODEL.WIDTH (32 for w32, 48 for w48), "
            "MODEL.MODULES and MODEL.STEM_CHANNELS as in its training, or use another file"
        )

    own = [name for name in network.state_dict() if group_of(name) == BACKBONE]
    missing = [name for name in report.missing if group_of(name) == BACKBONE]
    if own and len(missing) == len(own):
        raise UserError(
            f"{report.path} holds no tensor of this network's backbone, e.g. {own[0]}; "
            "set MODEL.BACKBONE as in its training, or use another file"
        )

    if strict and not report.complete:
        raise UserError(
            "these weights do not fit the network exactly, as evaluation requires; are MODEL.* and "
            f"DATASET.SKELETON those of their training?\n{report}"
        )


# ---- names of tensors ----


def translate_state_dict(state: Mapping[str, torch.Tensor], network: nn.Module) -> StateDict:
    """Rename the tensors of any supported file to the names they have in `network`.

    Rule: a name whose first part is a child of `network.backbone` or `network.heads` gets the
    prefix "backbone." or "heads.", e.g. "conv1.weight" -> "backbone.conv1.weight".
    Names of the public Double Embedding code are first replaced by ours. All other names, and those
    that are in the network already, do not change.
    """
    own_names = set(network.state_dict())
    parents = {}
    for name in own_names:
        parent, _, rest = name.partition(".")
        child = rest.partition(".")[0]
        parents[child] = parent

    is_public_de = origin_of(state) == PUBLIC_DE
    translated = {}
    for name, tensor in state.items():
        new_name = _from_public_de(name) if is_public_de else name
        first_part = new_name.partition(".")[0]
        if new_name not in own_names and first_part in parents:
            new_name = f"{parents[first_part]}.{new_name}"
        translated[new_name] = tensor
    return translated


def group_of(name: str) -> str:
    """The part that a tensor belongs to: "backbone", "neck", or the name of a head."""
    parent, _, rest = name.partition(".")
    child = rest.partition(".")[0]
    if parent == "heads" or (parent == BACKBONE and child == NECK):
        return child
    return parent


def origin_of(file_names: Iterable[str], translated_names: Iterable[str] = ()) -> str:
    """The codebase of a file, by the names of its tensors before and after translation."""
    names = list(file_names)
    groups = {group_of(name) for name in names}
    has_our_prefix = any(name.startswith("heads.") for name in names)
    if has_our_prefix or "global_head" in groups:
        return DUOPOSE
    if groups & PUBLIC_DE_HEADS:
        return PUBLIC_DE
    if "final_layers" in groups:
        return HIGHER_HRNET
    if "classifier" in groups:
        return IMAGENET_HRNET
    if "fc" in groups:
        return IMAGENET_RESNET

    has_backbone = any(group_of(name) == BACKBONE for name in translated_names)
    return BACKBONE_ONLY if has_backbone else UNKNOWN


def _from_public_de(name: str) -> str:
    """The name of a tensor in the public Double Embedding code -> its name in a head here.

    stem1 and *_off are the local head, stem2 and *_ae the global one. Item 0 of deconv_layers_* is
    a Sequential: its item 0 holds deconvolution and normalisation, items 1, 2 ... are each a
    Sequential of one basic block. Names of the backbone are the same in both codes.
    """
    first_part, _, rest = name.partition(".")
    if first_part in ("stem1", "stem2"):
        head = "local_head" if first_part == "stem1" else "global_head"
        return f"{head}.blocks.{rest}"

    match = re.fullmatch(r"(final|deconv)_layers_(off|ae)\.(.+)", name)
    if match is None:
        return name

    layers, kind, rest = match.groups()
    head = "local_head" if kind == "off" else "global_head"
    if layers == "deconv":
        return f"{head}.upsample.{_from_public_de_upsample(rest)}"

    index, _, tensor = rest.partition(".")
    stride = {"0": "stride4", "1": "stride2"}.get(index, index)
    return f"{head}.predict_{stride}.{tensor}"


def _from_public_de_upsample(rest: str) -> str:
    block = re.fullmatch(r"0\.([1-9]\d*)\.0\.(.+)", rest)
    if block is not None:
        index = int(block[1]) - 1
        return f"blocks.{index}.{block[2]}"
    return rest.replace("0.0.0.", "deconv.").replace("0.0.1.", "bn.")


# ---- text ----


def _count_by_group(names: Iterable[str]) -> str:
    counts = Counter(group_of(name) for name in names)
    return ", ".join(f"{group} {count}" for group, count in counts.items()) or "none"


def _first(items: list[str]) -> str:
    return f" (first: {items[0]})" if items else ""
