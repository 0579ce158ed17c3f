"""The names of tensors in other codebases' weight files, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

DUOPOSE, PUBLIC_DE, HIGHER_HRNET = "Duopose", "public Double Embedding", "HigherHRNet"
IMAGENET, BACKBONE_ONLY = "ImageNet HRNet", "HRNet backbone"

BACKBONE = "backbone"
HEADS = ("global_head", "local_head", "final_layers", "deconv_layers")
CLASSIFIER = ("incre_modules", "downsamp_modules", "final_layer", "classifier")
_BACKBONE = re.compile(r"^(?:conv[12]|bn[12]|layer1|transition[123]|stage[234])\.")
# ImageNet's HRNet and one-person pose networks go on with all branches, so their last module feeds the coarser ones too.
_COARSER_FUSE = re.compile(r"^stage4\.\d+\.fuse_layers\.[123]\.")

# Public DE: stem1 and *_off are the local head, stem2 and *_ae the global one; deconv_layers_*.0 is a Sequential whose
# item 0 is (deconvolution, normalisation) and whose items 1 ... are each a Sequential with one basic block.
_PUBLIC_DE_HEADS = {"off": "local_head", "ae": "global_head"}
_PUBLIC_DE_STEMS = {"stem1": "local_head", "stem2": "global_head"}


def group_of(name: str) -> str:
    """The part of a network that a tensor belongs to: "backbone", or a head's name."""
    return BACKBONE if _BACKBONE.match(name) else name.partition(".")[0]


def kind_of(names: Iterable[str]) -> str:
    """Which codebase a file comes from, by its tensors' names."""
    groups = {group_of(name) for name in names}
    if "global_head" in groups:
        return DUOPOSE
    if groups & {"stem1", "stem2", "final_layers_off", "final_layers_ae"}:
        return PUBLIC_DE
    if "final_layers" in groups:
        return HIGHER_HRNET
    if "classifier" in groups:
        return IMAGENET
    return BACKBONE_ONLY if BACKBONE in groups else "unknown"


def to_our_names(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Rename what has another name here; only public DE does."""
    return (
        {from_public_de(name): tensor for name, tensor in state.items()}
        if kind == PUBLIC_DE
        else state
    )


def from_public_de(name: str) -> str:
    """A tensor's name in public DE -> here; names of the backbone are the same."""
    first, _, rest = name.partition(".")
    if first in _PUBLIC_DE_STEMS:
        return f"{_PUBLIC_DE_STEMS[first]}.blocks.{rest}"
    found = re.fullmatch(r"(final|deconv)_layers_(off|ae)\.(.+)", name)
    if found is None:
        return name
    part, which, rest = found.groups()
    head = _PUBLIC_DE_HEADS[which]
    if part == "final":
        stride = {"0": "stride4", "1": "stride2"}
        number, _, tensor = rest.partition(".")
        return f"{head}.predict_{stride.get(number, number)}.{tensor}"
    return f"{head}.upsample.{_upsample_name(rest)}"


def _upsample_name(rest: str) -> str:
    block = re.fullmatch(r"0\.([1-9]\d*)\.0\.(.+)", rest)
    if block is not None:
        return f"blocks.{int(block[1]) - 1}.{block[2]}"
    return rest.replace("0.0.0.", "deconv.").replace("0.0.1.", "bn.")


def is_expected_extra(name: str, network_groups: set[str]) -> bool:
    """Whether a tensor that a network has no use for is only what its file's own purpose brings along."""
    group = group_of(name)
    return (group in (*HEADS, *CLASSIFIER) and group not in network_groups) or _COARSER_FUSE.match(
        name
    ) is not None


def is_expected_gap(name: str, file_groups: set[str]) -> bool:
    """Whether a tensor is missing because the file is of a network without that head."""
    group = group_of(name)
    return group in HEADS and group not in file_groups
