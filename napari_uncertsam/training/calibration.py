"""One temperature for a model, folded into its weights, so that a probability of 0.8 is right four times in five.

Temperature scaling (Guo et al. 2017): probabilities are ``sigmoid(logit / T)``, with the T that has the lowest mean
cross-entropy on scenes that the model was not trained on. A mask logit is linear in the last layer of its token's
hypernetwork, so that T goes into the weights (:func:`fold`), and everything that reads logits reads calibrated ones.

Calibrate before the memory of slices is trained and before parts are fitted: the memory encoder takes
``20 sigmoid(logit) - 10`` of the mask, which no weights can turn back, and a part belongs to one checkpoint.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.errors import InputError
from napari_uncertsam.prompts import BOX_CORNER_MAX, BOX_CORNER_MIN
from napari_uncertsam.training.frozen import Frozen
from napari_uncertsam.training.schedule import PromptBatch, corrections, first_prompts, mask_corners
from napari_uncertsam.training.seeds import generator_of
from napari_uncertsam.training.sources import Source
from napari_uncertsam.training.steps import choose_objects

#: Most objects of a scene that are prompted for.
OBJECTS = 4
#: Opening prompts, by the form that `first_prompts` draws; None is the exact box. Those named here are corrected once.
OPENINGS = {"tight box": None, "noisy box": "box", "one click": "point", "several clicks": "points"}
CORRECTED = ("noisy box", "one click")
#: Pixels that are counted: all, or those around the object.
REGIONS = ("image", "around")
#: Temperatures that are looked at; one beyond them says that something else is wrong.
LOWEST, HIGHEST = 0.05, 20.0
#: Logits are counted in bins of this width, in nats, up to this size.
WIDTH, REACH = 1 / 128, 64.0
#: Tells these scenes from those of any training.
_HELD_OUT = 0xCA11B

_LAST = re.compile(r"(sam_mask_decoder\.output_hypernetworks_mlps\.\d+)\.layers\.(\d+)\.(?:weight|bias)")
_MASK_PROMPT = "sam_prompt_encoder.mask_downscaling.0.weight"

Float = NDArray[np.float64]
Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Yardstick:
    """How calibration is measured. The evaluation knows, and training does not know the evaluation: it is handed in.

    Parameters
    ----------
    around : callable
        The pixels around an object, ``(h, w)`` bool, of its true mask: `evaluation.metrics.roi_of`.
    reliability : callable
        The curve of probabilities and truth, which has `ece`, `sums` and `of_sums`:
        `evaluation.metrics.reliability_curve`.
    """

    around: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
    reliability: Callable[[Float, NDArray[np.bool_]], Any]


class Score(NamedTuple):
    """How calibrated the predictions of one form are.

    Attributes
    ----------
    ece : float
        Expected calibration error of all pixels together, in [0, 1].
    case_ece : float
        Mean of the errors of single cases, as the evaluation's tables have it: it has the noise of each in it, and
        would not be 0 for calibrated probabilities.
    nll : float
        Mean over the cases of the cross-entropy per pixel, in nats.
    """

    ece: float
    case_ece: float
    nll: float


#: By form, then by region: the scores before and after.
Scores = dict[str, dict[str, tuple[Score, Score]]]


@dataclass
class Tally:
    """Logits and truth of many cases, counted so finely that the cross-entropy of any temperature follows.

    A case weighs 1, whatever its pixels. Within a bin its mean logit stands for all, which is wrong by less than 1e-6
    nats; what is linear in the logits is exact.

    Examples
    --------
    >>> tally, logits = Tally(), np.linspace(-9, 9, 1001)
    >>> tally.add(3 * logits, expit(logits))  # three times as confident as is right
    >>> round(tally.temperature(), 3)
    3.0
    """

    weight: Float = field(default_factory=lambda: np.zeros(2 * round(REACH / WIDTH)))
    moment: Float = field(default_factory=lambda: np.zeros(2 * round(REACH / WIDTH)))
    linear: float = 0.0
    cases: int = 0

    def add(self, logits: ArrayLike, truth: ArrayLike) -> None:
        """Count one case: logits of any shape, at least one; truth in [0, 1], or bool."""
        x, y = (np.asarray(v, np.float64).ravel() for v in (logits, truth))
        index = np.clip((x + REACH) / WIDTH, 0, self.weight.size - 1).astype(np.intp)
        self.weight += np.bincount(index, minlength=self.weight.size) / x.size
        self.moment += np.bincount(index, x, self.weight.size) / x.size
        self.linear += float(x @ y) / x.size
        self.cases += 1

    def nll(self, temperature: float) -> float:
        """Mean cross-entropy per pixel of ``sigmoid(logit / T)``, in nats."""
        used = self.weight > 0
        scaled = self.moment[used] / self.weight[used] / temperature
        return float(self.weight[used] @ np.logaddexp(0, scaled) - self.linear / temperature) / self.cases

    def temperature(self) -> float:
        """The temperature of lowest cross-entropy, which is convex in 1 / T: where its slope is zero.

        Raises
        ------
        InputError
            If there are no cases, or it lies outside [0.05, 20].
        """
        used = self.weight > 0
        mean = self.moment[used] / self.weight[used]

        def slope(log_inverse: float) -> float:
            return float(self.moment[used] @ expit(math.exp(log_inverse) * mean)) - self.linear

        ends = [-math.log(HIGHEST), -math.log(LOWEST)]
        if not self.cases or slope(ends[0]) >= 0 or slope(ends[1]) <= 0:
            raise InputError(
                f"No temperature between {LOWEST:g} and {HIGHEST:g} calibrates these predictions, so they are near "
                "perfect or say nothing; train the model first, or give more scenes."
            )
        return math.exp(-float(brentq(slope, *ends, xtol=1e-12)))


@dataclass
class _Scored:
    """Cases of one form, in one region, added up."""

    curve: Any = None
    sums: list[Float] = field(default_factory=list)
    ece: float = 0.0
    nll: float = 0.0
    cases: int = 0

    def add(self, logits: Float, truth: NDArray[np.bool_], yardstick: Yardstick) -> None:
        self.curve = yardstick.reliability(expit(logits), truth)
        sums = [np.asarray(s, np.float64) for s in self.curve.sums]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else sums
        self.ece += self.curve.ece
        self.nll += float((np.logaddexp(0, logits) - truth * logits).mean())
        self.cases += 1

    def score(self) -> Score:
        return Score(self.curve.of_sums(*self.sums).ece, self.ece / self.cases, self.nll / self.cases)


@torch.no_grad()
def predictions(
    frozen: Frozen, features: tuple[Tensor, ...], truth: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """Logits for every form of prompt.

    Parameters
    ----------
    frozen : Frozen
    features : of `Frozen.embed`
    truth : (n, s, s) bool
        Objects of the scene, on the model's device.
    generator : torch.Generator
        On the CPU.

    Yields
    ------
    The form, one of :data:`OPENINGS`, or with ", corrected" behind it after a point where it was most wrong and its
    mask fed back; and (n, s, s) float32 logits.
    """
    for form, drawn in OPENINGS.items():
        prompts = _tight_boxes(truth) if drawn is None else first_prompts(truth, drawn, generator)
        low = frozen.decode(features, prompts).logits[:, None]
        seen = _enlarged(low, truth)
        yield form, seen
        if form in CORRECTED:
            more = corrections(truth, seen, generator)
            extended = prompts.extended(more.coordinates, more.labels)
            yield f"{form}, corrected", _enlarged(frozen.decode(features, extended, low).logits[:, None], truth)


def count_logits(
    frozen: Frozen, source: Source, yardstick: Yardstick, *, scenes: int, seed: int, report: Report | None = None
) -> dict[str, Tally]:
    """Logits and truth of the prompts on so many scenes, by region: a temperature is fitted with `Tally.temperature`.

    Every prompt counts the same, whatever its form and the object's size, as in the evaluation's tables. The regions
    disagree: pixels "around" are chosen by the truth, so objects that were missed weigh more there than they do among
    the pixels that a person sees, and the temperature comes out higher than the "image" asks for.
    """
    tallies = {region: Tally() for region in REGIONS}
    for _, logits, truth in _cases(frozen, source, scenes, 2 * seed, report):
        for region, pixels in _regions(truth, yardstick):
            tallies[region].add(logits[pixels], truth[pixels])
    return tallies


def held_out_scores(
    frozen: Frozen,
    source: Source,
    yardstick: Yardstick,
    temperature: float,
    *,
    scenes: int,
    seed: int,
    report: Report | None = None,
) -> Scores:
    """Calibration before and after a temperature, on scenes that :func:`count_logits` of no seed sees.

    Returns
    -------
    By form, and for "all", by region ("image", "around"): the scores before and after.
    """
    added: dict[tuple[str, str, bool], _Scored] = {}
    for form, logits, truth in _cases(frozen, source, scenes, 2 * seed + 1, report):
        for region, pixels in _regions(truth, yardstick):
            x, y = logits[pixels].astype(np.float64), truth[pixels]
            for after, scaled in ((False, x), (True, x / temperature)):
                for name in (form, "all"):
                    added.setdefault((name, region, after), _Scored()).add(scaled, y, yardstick)
    forms = dict.fromkeys(form for form, _, _ in added)
    return {form: {r: (added[form, r, False].score(), added[form, r, True].score()) for r in REGIONS} for form in forms}


def fold(state: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """The weights of the model whose mask logits are those of `state` divided by `temperature`.

    The last layer of every mask token's hypernetwork is divided. The first layer that sees a mask prompt is
    multiplied, so that a fed back mask says what it said before: predicted overlap, object score, and the sign of
    every logit stay as they are. (Logits are clamped to 32 on their way back, which is of no consequence.)

    Parameters
    ----------
    state : mapping of str to Tensor
        Of a SAM2Base; not changed.
    temperature : float
        Positive.

    Raises
    ------
    InputError
        If `temperature` is not positive, or these are not the weights of a SAM 2.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"The temperature {temperature:g} cannot divide logits; give a positive number.")
    found = [match for match in map(_LAST.fullmatch, state) if match]
    if not found or _MASK_PROMPT not in state:
        raise InputError("These weights have no mask decoder of SAM 2 to calibrate; give those of a whole model.")
    last = {mlp: max(int(m[2]) for m in found if m[1] == mlp) for mlp in {m[1] for m in found}}
    factors = {m[0]: 1 / temperature for m in found if int(m[2]) == last[m[1]]}
    factors[_MASK_PROMPT] = temperature
    # In float32, so that half precision is rounded once more and not twice.
    return {k: v.float() * factors[k] if k in factors else v for k, v in state.items()}


def record(
    metadata: Mapping[str, str],
    temperature: float,
    scores: Scores,
    *,
    region: str,
    scenes: int,
    held_out: int,
    seed: int,
) -> dict[str, str]:
    """Metadata of calibrated weights: that of the weights before, with what was folded in and what it did.

    ``"temperature"`` is the product of all that was ever folded in; ``"calibration"`` is JSON of the last time: scenes,
    seed, and the scores of all forms of prompt before and after.
    """
    earlier = float(metadata.get("temperature", "1"))
    done: dict[str, Any] = {"temperature": temperature, "region": region, "scenes": scenes, "held_out": held_out}
    done |= {"seed": seed} | {
        region: {"before": before._asdict(), "after": after._asdict()}
        for region, (before, after) in scores["all"].items()
    }
    return {**metadata, "temperature": repr(earlier * temperature), "calibration": json.dumps(done)}


def as_json(temperature: float, scores: Scores) -> str:
    """The temperature and all of :func:`held_out_scores`, to be read by people and programs."""
    forms = {
        form: {r: {"before": b._asdict(), "after": a._asdict()} for r, (b, a) in regions.items()}
        for form, regions in scores.items()
    }
    return json.dumps({"temperature": temperature, "held_out": forms}, indent=1) + "\n"


def _regions(truth: NDArray[np.bool_], yardstick: Yardstick) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield from zip(REGIONS, (np.ones_like(truth), yardstick.around(truth)), strict=True)


def _cases(
    frozen: Frozen, source: Source, scenes: int, seed: int, report: Report | None
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
    """Form, logits and truth, ``(s, s)``, of every prompt on so many scenes."""
    generator, began = generator_of(_HELD_OUT, seed, 0, 0), time.monotonic()
    for done in range(1, scenes + 1):
        scene = source.draw(generator, frozen.resolution)
        truth = choose_objects(scene.masks, generator, OBJECTS).to(frozen.device)
        masks = truth.cpu().numpy()
        for form, logits in predictions(frozen, frozen.embed(scene.image), truth, generator):
            if not logits.isfinite().all():
                raise InputError(
                    f"The model's logits for scene {done} are not finite; its weights cannot be calibrated."
                )
            for one, mask in zip(logits.cpu().numpy(), masks, strict=True):
                yield form, one, mask
        if report is not None:
            report({"step": done, "progress": done / scenes, "seconds": time.monotonic() - began})


def _tight_boxes(truth: Tensor) -> PromptBatch:
    labels = torch.tensor([[BOX_CORNER_MIN, BOX_CORNER_MAX]], dtype=torch.int32, device=truth.device)
    return PromptBatch(mask_corners(truth), labels.expand(len(truth), 2))


def _enlarged(low: Tensor, truth: Tensor) -> Tensor:
    return F.interpolate(low, truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
