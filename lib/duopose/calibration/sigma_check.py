"""Whether the stated standard deviations of positions are true: stated against observed errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from duopose.calibration.calibrate import decode_people
from duopose.calibration.collect import ImagePeaks, collect_peaks
from duopose.datasets.dataset import CocoFormatDataset
from duopose.decode.decoder import Decoder
from duopose.errors import UserError
from duopose.evaluate.metrics import format_table
from duopose.inference.model import Model

NUM_BINS = 5


@dataclass(frozen=True)
class SigmaBin:
    """Joints of similar stated sigma; root mean squares in pixels of the network's input."""

    stated: float
    observed: float
    count: int

    @property
    def ratio(self) -> float:
        """1 where the sigmas are right, above 1 where they are too small."""
        return self.observed / self.stated


@dataclass(frozen=True)
class SigmaCheck:
    """Result of `check_sigmas`."""

    bins: list[SigmaBin]
    rank_correlation: float  # Spearman's, of stated sigma and observed error, joint by joint
    num_images: int
    num_joints: int  # that were compared
    num_outliers: int  # joints of other people, which sigma does not speak of

    def table(self) -> str:
        """The bins, and a line below."""
        rows = [
            [str(one.count), f"{one.stated:.2f}", f"{one.observed:.2f}", f"{one.ratio:.2f}"]
            for one in self.bins
        ]
        text = format_table(["joints", "stated sigma", "observed", "observed / stated"], rows)
        return (
            f"{text}\nrank correlation {self.rank_correlation:.3f}; {self.num_joints} joints, "
            f"{self.num_outliers} more were farther than 0.2 person sizes from the truth"
        )


def collect_for_check(model: Model, dataset: CocoFormatDataset) -> list[ImagePeaks]:
    """Peaks of all images of a data set without augmentation.

    UserError where the model is not calibrated.
    """
    if model.predictor.decoder.settings.calibration is None:
        raise UserError(
            f"{model.load_report.path} is not calibrated, so it states no sigmas; "
            "run tools/calibrate.py --model on it first (or leave out TEST.CALIBRATION off)"
        )
    return collect_peaks(model.predictor, dataset, range(len(dataset)))


def check_sigmas(decoder: Decoder, images: Sequence[ImagePeaks]) -> SigmaCheck:
    """Compare the sigmas of a calibrated decoder with the errors on annotated images.

    UserError where it finds fewer joints than there are bins.
    """
    people = decode_people(decoder, images)
    known = ~np.isnan(people.error) & (people.sigma > 0)
    if known.sum() < NUM_BINS:
        raise UserError(
            f"the model finds {known.sum()} annotated joints in {len(images)} images; there is "
            "nothing to compare"
        )
    stated = people.sigma[known]
    error = people.error[known]
    correlation = float(spearmanr(stated, error).statistic)
    return SigmaCheck(
        bins=sigma_bins(stated, error),
        rank_correlation=correlation,
        num_images=len(images),
        num_joints=len(stated),
        num_outliers=int(people.is_outlier.sum()),
    )


def sigma_bins(stated: np.ndarray, error: np.ndarray) -> list[SigmaBin]:
    """NUM_BINS bins of equal size in the order of the stated sigmas; both (N,)."""
    bins = []
    for part in np.array_split(np.argsort(stated, kind="stable"), NUM_BINS):
        mean_stated = float(np.sqrt((stated[part] ** 2).mean()))
        mean_error = float(np.sqrt((error[part] ** 2).mean()))
        bins.append(SigmaBin(mean_stated, mean_error, len(part)))
    return bins
