"""From maps to people: merging of passes, peaks, grouping, refinement, filling, ranking."""

from duopose.decode.build import build_decoder, build_merger
from duopose.decode.decoder import Decoder
from duopose.decode.merge_passes import Pass, merge_passes

__all__ = ["Decoder", "Pass", "build_decoder", "build_merger", "merge_passes"]
