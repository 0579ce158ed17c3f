"""From maps to people: merging of passes, peaks, grouping, refinement, filling, scores."""

from duopose.decode.build import build_decoder, build_merger
from duopose.decode.merge import Pass, merge_passes
from duopose.decode.pipeline import Decoder

__all__ = ["Decoder", "Pass", "build_decoder", "build_merger", "merge_passes"]
