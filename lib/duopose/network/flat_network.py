"""A network whose maps have names, as files for other run-time libraries need it.

    images (B, 3, H, W) float32, normalised -> heatmaps_4, heatmaps_2, tags_4, offsets_4, offsets_2

A name is the field of `NetworkOutput` and the stride. A network without offset maps, or with those
of one stride, has fewer names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from duopose.errors import UserError
from duopose.network.pose_net import check_input_shape
from duopose.types import STRIDES, NetworkOutput

INPUT_NAME = "images"
MAP_NAME = re.compile(rf"(heatmaps|tags|offsets)_({'|'.join(map(str, STRIDES))})")


class FlatNetwork(nn.Module):
    """A network that returns its maps as one tuple, in the order of `map_names`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (B, 3, H, W) -> maps (B, C, H / stride, W / stride)."""
        output: NetworkOutput = self.network(images)
        return flatten_output(output)


def flatten_output(output: NetworkOutput) -> tuple[torch.Tensor, ...]:
    """All maps: heatmaps, tags, offsets."""
    return (*output.heatmaps, output.tags, *output.offsets)


def map_names(output: NetworkOutput, input_height: int) -> list[str]:
    """The names of `flatten_output`; the stride is that of the maps."""
    fields = ["heatmaps"] * len(output.heatmaps) + ["tags"] + ["offsets"] * len(output.offsets)
    strides = [input_height // maps.shape[-2] for maps in flatten_output(output)]
    return [f"{field}_{stride}" for field, stride in zip(fields, strides, strict=True)]


def output_of_maps(names: Iterable[str], maps: Iterable[torch.Tensor]) -> NetworkOutput:
    """The inverse of `flatten_output`, by the names."""
    fields: dict[str, list[torch.Tensor]] = {"heatmaps": [], "tags": [], "offsets": []}
    for name, one in zip(names, maps, strict=True):
        field, _, _ = name.partition("_")
        fields[field].append(one)
    return NetworkOutput(tuple(fields["heatmaps"]), fields["tags"][0], tuple(fields["offsets"]))


class ExportedNetwork(nn.Module):
    """A network in an exported file, run by another library; it is used like a `PoseNet`.

    run: images (B, 3, H, W) float32 -> maps in the order of `channels`. It may raise any error.
    channels: names of the maps and their numbers of channels.
    source: the file and the library, for errors.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], Sequence[np.ndarray]],
        channels: Mapping[str, int],
        source: str,
    ) -> None:
        super().__init__()
        check_map_names(channels, source)
        self.run = run
        self.channels = dict(channels)
        self.source = source

    def forward(self, images: torch.Tensor) -> NetworkOutput:
        """Normalised images (B, 3, H, W) -> maps on the device of the images, float32.

        ValueError for images of another shape; UserError where the file cannot be run on them.
        """
        check_input_shape(images)
        array = images.detach().float().cpu().contiguous().numpy()
        try:
            arrays = self.run(array)
        except Exception as error:  # the libraries have no common class of errors
            raise UserError(f"{self.source} failed on a batch {array.shape}: {error}") from error

        self._check_shapes(array.shape, arrays)
        maps = [torch.from_numpy(one).to(images.device) for one in arrays]
        return output_of_maps(self.channels, maps)

    def _check_shapes(self, shape: tuple[int, ...], arrays: Sequence[np.ndarray]) -> None:
        batch, _, height, width = shape
        for (name, channels), maps in zip(self.channels.items(), arrays, strict=True):
            stride = int(name.partition("_")[2])
            expected = (batch, channels, height // stride, width // stride)
            if maps.shape != expected:
                raise UserError(f"{self.source}: {name} is {maps.shape}, expected {expected}")


def check_map_names(channels: Mapping[str, int], source: str) -> None:
    """UserError unless these are the maps of a network of ours."""
    fields = [name.partition("_")[0] for name in channels]
    all_known = all(MAP_NAME.fullmatch(name) for name in channels)
    if not all_known or "heatmaps" not in fields or fields.count("tags") != 1:
        found = ", ".join(channels) or "none"
        raise UserError(
            f"{source}: its outputs are {found}; those of a file of tools/export.py are "
            "heatmaps_4, heatmaps_2, tags_4 and, for Double Embedding, offsets_4, offsets_2"
        )
