"""The decoder's settings as plain values.

A field has the name of its key in lower case: `TEST.JOINT_THRESHOLD` is `joint_threshold`, and
`settings.joint_threshold` in the other modules of this folder. Keys, defaults and meanings are
declared in config/evaluation_settings.py (`DATASET.OFFSET_RADIUS` in config/settings.py) and listed
in docs/settings.md. `build.decoder_settings` makes the object.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderSettings:
    """Lengths are in pixels of the merged input unless a comment names another unit."""

    max_people: int
    nms_kernel: int  # cells
    nms_kernel_centre: int  # cells
    detection_threshold: float
    start_threshold: float
    tag_threshold: float
    tag_sigma: float
    offset_radius: int  # cells
    offset_sigma: float
    offset_sigma_relative: float  # fraction of a joint's longest offset
    outlier_probability: float
    joint_threshold: float
    nms_suppressed_penalty: float
    confident_score: float
    score_weight: float
    max_iterations: int
    subpixel: bool
    mrm: str  # off | paper | precision
    peak_sigma: float  # person sizes
    fill: bool
    fill_radius: int  # cells of the tag maps
    fill_threshold: float
    filled_score_weight: float
    person_threshold: float
    duplicate_score_factor: float
