"""What the decoder can be told; `build` fills it from the TEST keys of the configuration, whose comments explain each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderSettings:
    """Lengths in pixels of the merged input unless said otherwise; see `config.defaults` for what each does."""

    max_people: int = 100
    nms_kernel: int = 5  # cells
    nms_kernel_centre: int = 7  # cells
    detection_threshold: float = 0.1
    start_threshold: float = 0.25
    tag_threshold: float = 1.0
    tag_sigma: float = 0.3
    offset_radius: int = 7  # cells, of the windows in which offsets are taught
    offset_sigma: float = 4.0
    offset_sigma_relative: float = 0.12
    outlier_probability: float = 0.02
    join_threshold: float = -3.0
    nms_suppressed_penalty: float = 1.0
    confident_score: float = 0.25
    score_weight: float = 6.0
    max_iterations: int = 3
    subpixel: bool = True
    mrm: str = "precision"
    peak_sigma: float = 0.1
    fill: bool = True
    fill_radius: int = 1  # cells of the tag maps
    fill_threshold: float = -5.0
    filled_score_weight: float = 0.0
    person_threshold: float = 0.0
    duplicate_score_factor: float = (
        0.1  # factor on the score of people who lie where a better one does; 0: dropped
    )
