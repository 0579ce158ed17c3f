"""The decoder's settings as plain values.

A field has the name of its key in lower case: `TEST.JOINT_THRESHOLD` is `joint_threshold`, and
`settings.joint_threshold` in the other modules of this folder. Keys, defaults and meanings are
declared in config/evaluation_settings.py (`DATASET.OFFSET_RADIUS` in config/settings.py) and listed
in docs/settings.md. `build.decoder_settings` makes the object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from duopose.decode.calibration import Calibration

# Log gain of tags. Chosen on COCO val annotations with the perfect-network test.
LOG_GAIN_TAG = 1.5

# Log gain of offsets: an unrelated position is within the same few sigma about once in 20
# times (log 20 = 3.0), estimated on COCO val annotations with the perfect-network test.
LOG_GAIN_OFFSET = 3.0

# Sigma of an offset read where windows of several people overlap, in units of
# max_offset_length: its target is the mean over these people. Chosen on COCO val annotations
# with the perfect-network test.
OVERLAP_SIGMA = 0.5

# The fields that a calibration replaces.
CALIBRATED_FIELDS = (
    "tag_sigma",
    "log_gain_tag",
    "offset_sigma",
    "offset_sigma_relative",
    "overlap_sigma",
    "log_gain_offset",
    "outlier_probability",
    "nms_suppressed_penalty",
    "start_threshold",
)


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
    limb_prior: bool = True  # of the calibration
    log_gain_tag: float = LOG_GAIN_TAG
    log_gain_offset: float = LOG_GAIN_OFFSET
    overlap_sigma: float = OVERLAP_SIGMA
    calibration: Calibration | None = None  # None: the defaults of an unknown network

    def with_calibration(self, calibration: Calibration | None) -> DecoderSettings:
        """The same with CALIBRATED_FIELDS and all other values of a calibration."""
        if calibration is None:
            return self
        if not self.limb_prior:
            calibration = replace(calibration, limbs=(), limb_limit=(), limb_scale=())
        values = {name: getattr(calibration, name) for name in CALIBRATED_FIELDS}
        return replace(self, **values, calibration=calibration)
