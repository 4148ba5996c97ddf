"""What a mask comes to in numbers, kept where its maps are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_uncertsam.measure import region_of_interest
from napari_uncertsam.prediction import Prediction
from napari_uncertsam.propagation import Propagated
from napari_uncertsam.uncertainty import binary_entropy

#: Half the width of a 90 % interval of a normal distribution, in standard deviations.
NORMAL_90 = 1.6448536269514722


@dataclass(frozen=True)
class Figures:
    """What a model said of one object on one slice.

    Parameters
    ----------
    uncertainty : float
        Mean entropy around the object in nats; NaN where it is not known.
    area_px, area_sd_px : float
        Area of the mask in pixels of the slice, and the standard deviation of the true one; NaN where it is not known.
    uncertain_px : float
        How many pixels the mask is expected to have wrong; NaN where it is not known.
    expected_dice : float, optional
        In [0, 1]; None where the belief cannot tell.
    """

    uncertainty: float
    area_px: float
    area_sd_px: float
    uncertain_px: float
    expected_dice: float | None = None

    @classmethod
    def by_hand(cls, area_px: float) -> Figures:
        """Of a mask that no model was asked about."""
        return cls(0.0, area_px, 0.0, 0.0)

    @classmethod
    def unknown(cls, area_px: float) -> Figures:
        """Of a mask of which nothing else was kept."""
        return cls(math.nan, area_px, math.nan, math.nan)

    @classmethod
    def of_prediction(cls, prediction: Prediction) -> Figures:
        """Of a prediction, whatever measure it shows."""
        low, high = prediction.area_interval
        dice = None if prediction.quality is None else prediction.quality.dice
        spread = (high - low) / (2 * NORMAL_90)
        return cls(_mean_entropy(prediction), prediction.area_px, spread, prediction.uncertain_px, dice)

    @classmethod
    def of_propagated(cls, told: Propagated) -> Figures:
        """Of what propagation says."""
        return cls(told.mean_uncertainty, told.area_px, told.area_sd_px, told.uncertain_px, told.expected_dice)


def _mean_entropy(prediction: Prediction) -> float:
    if prediction.record.get("measure", "entropy") == "entropy":
        return prediction.mean_uncertainty
    where = region_of_interest(prediction.maps, prediction.request.prompts)
    return float(binary_entropy(prediction.maps.local_probability[where]).mean(dtype="float64"))
