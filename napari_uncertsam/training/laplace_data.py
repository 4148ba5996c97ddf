"""What a Laplace posterior is fitted to: one forward pass per image, and of it a few thousand numbers per prompt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uncertsam.engine import Engine
from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.estimators.laplace.curvature import CURVATURES, curvature_of, with_bias
from napari_uncertsam.prompts import BOX_CORNER_MIN, Box, Point, Prompts
from napari_uncertsam.training.laplace_settings import Schedule
from napari_uncertsam.training.runs import check_same, read_checkpoint, save_checkpoint
from napari_uncertsam.training.schedule import PromptBatch, first_prompts
from napari_uncertsam.training.steps import laplace_prompts

if TYPE_CHECKING:
    from napari_uncertsam.training.sources import Source

#: Pixels kept of every prompt: as many as matter, drawn around the object, where masks are looked at. Far away all is
#: background to every posterior, and would decide what is chosen by its number.
PIXELS = 2048
#: Width of the surroundings as a share of the map's diagonal, as measures "around the object" have it.
AROUND = 0.02
#: Forms of prompts with their shares: what people draw (see :func:`first_prompts` for the noise of boxes).
FORMS = {"box": 0.7, "point": 0.15, "box+points": 0.15}
#: What a checkpoint of a collection holds.
CHECKPOINT_PARTS = frozenset({"stamp", "rows", "done", "seconds"})
_SAVE_EVERY = 120.0  # seconds


@dataclass(frozen=True, eq=False)
class Collected:
    """N prompts of one mask token.

    Parameters
    ----------
    logits : (N, P) float32
        At P pixels of each prompt.
    features : (N, K, P) float16
    truth : (N, P) float32
        Share of each pixel that the object covers.
    hidden : (N, C + 1) float64
        Input of the last layer, with a one.
    curvature : dict of str to (N, K, K) float64
        Over all pixels, by kind.
    pixels : int
        How many pixels those that were kept stand for.
    image : (N,) int64
        Number of the image.
    """

    logits: Tensor
    features: Tensor
    truth: Tensor
    hidden: Tensor
    curvature: dict[str, Tensor]
    pixels: int
    image: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    def part(self, chosen: Tensor) -> Collected:
        """Some of the prompts, by a boolean mask or numbers."""
        rest = {name: values[chosen] for name, values in self.curvature.items()}
        return Collected(
            self.logits[chosen],
            self.features[chosen],
            self.truth[chosen],
            self.hidden[chosen],
            rest,
            self.pixels,
            self.image[chosen],
        )


def collect(
    engine: Engine,
    source: Source,
    *,
    images: int,
    prompts: int,
    seed: int,
    schedule: Schedule = "plugin",
    keep: Path | None = None,
    stamp: dict[str, Any] | None = None,
    report: Callable[[int, float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Collected]:
    """Look at images and keep what the fit needs, for every mask token.

    The first token answers every prompt. Of the others, the one that fits the truth best is the one that a prompt
    would train, so each of them has the prompts where it is that.

    Parameters
    ----------
    engine : Engine
    source : Source
    images, prompts : int
        How many, and prompts on each image.
    seed : int
        Every image has a generator of its own, so a run that is taken up again draws the same ones.
    schedule : {"plugin", "uncertsam"}
        Which prompts are drawn.
    keep : Path, optional
        File in which what was collected is kept every two minutes, and taken up again.
    stamp : dict, optional
        What has to be the same to take it up.
    report : callable, optional
        Told ``(images done, seconds)`` after every image, those of earlier runs included.
    cancelled : callable, optional

    Raises
    ------
    Cancelled
        When `cancelled` said so; what was collected is kept.
    InputError
        If `keep` was written with other settings.
    """
    rows, done, before = _restore(keep, stamp)
    start = saved = time.monotonic()
    try:
        for number in range(done, images):
            if cancelled is not None and cancelled():
                raise Cancelled("The fit was stopped; the same command goes on from here.")
            rows += _look(engine, source, number, prompts, seed, schedule)
            done = number + 1
            if report is not None:
                report(done, before + time.monotonic() - start)
            if time.monotonic() - saved > _SAVE_EVERY:
                _save(keep, stamp, rows, done, before + time.monotonic() - start)
                saved = time.monotonic()
    finally:
        _save(keep, stamp, rows, done, before + time.monotonic() - start)
    if not rows:
        raise InputError("There was no object in any image to fit to; give another dataset.")
    return _stacked([row for row in rows if row["image"] < images])


def _look(
    engine: Engine, source: Source, number: int, prompts: int, seed: int, schedule: Schedule
) -> list[dict[str, Any]]:
    """Rows of one image."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    scene = source.draw(generator, engine.resolution)
    if len(scene.masks) == 0:
        return []
    image = (scene.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    embedding = engine.embed(image)
    chosen = torch.randint(len(scene.masks), (prompts,), generator=generator)
    chosen[::2] = 0  # the object that the camera is on
    given = [_as_prompts(_drawn(scene.masks[index][None], schedule, generator)) for index in chosen]
    decoded = engine.decode(embedding, given)
    size = decoded.logits.shape[-2:]
    truth = F.interpolate(scene.masks[chosen][:, None].float(), size, mode="area").flatten(1)
    logits, features = decoded.token_logits.cpu(), decoded.features.cpu()
    inside = (logits > 0).flatten(2)
    shared = (inside & (truth > 0.5)[:, None]).sum(2) / (inside | (truth > 0.5)[:, None]).sum(2).clamp(min=1)
    best = 1 + shared[:, 1:].argmax(1) if logits.shape[1] > 1 else torch.zeros(len(given), dtype=torch.int64)
    near = _around(truth.view(-1, *size))
    rows = []
    for row in range(len(given)):
        pixels = _drawn_pixels(near[row], generator)
        for token in sorted({0, int(best[row])}):
            flat = logits[row, token].flatten()
            rows.append(
                {
                    "token": token,
                    "image": number,
                    "pixels": PIXELS,
                    "logits": flat[pixels].float(),
                    "features": features[row].flatten(1)[:, pixels].half(),
                    "truth": truth[row, pixels],
                    "hidden": with_bias(decoded.token_hidden[row, token : token + 1].cpu())[0],
                }
                | {k: curvature_of(k, logits[row : row + 1, token], features[row : row + 1])[0] for k in CURVATURES}
            )
    return rows


def _around(truth: Tensor) -> Tensor:
    """Whether pixels belong to the objects ``(n, h, w)`` or their surroundings: ``(n, h w)`` bool."""
    reach = math.ceil(AROUND * math.hypot(*truth.shape[-2:]))
    return F.max_pool2d((truth > 0)[:, None].float(), 2 * reach + 1, 1, reach).flatten(1) > 0


def _drawn_pixels(near: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers of :data:`PIXELS` pixels of those near ``(p,)``, all of them as often as the next, but for one."""
    places = near.nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=generator)]
    return places.repeat(-(-PIXELS // len(places)))[:PIXELS]


def _drawn(truth: Tensor, schedule: Schedule, generator: torch.Generator) -> PromptBatch:
    """Prompts for one object ``(1, s, s)``."""
    if schedule == "uncertsam":
        return laplace_prompts(truth, generator)
    form = list(FORMS)[int(torch.multinomial(torch.tensor(list(FORMS.values())), 1, generator=generator))]
    return first_prompts(truth, form, generator)


def _as_prompts(batch: PromptBatch) -> Prompts:
    """SAM's ``(x, y)`` coordinates of one prompt as values of the plugin; the image has the model's own resolution."""
    given = list(zip(batch.coordinates[0].tolist(), batch.labels[0].tolist(), strict=True))
    corners = [xy for xy, label in given if label >= BOX_CORNER_MIN]
    box = Box(corners[0][1], corners[0][0], corners[1][1], corners[1][0]) if corners else None
    return Prompts(tuple(Point(y, x, bool(label)) for (x, y), label in given if label < BOX_CORNER_MIN), box)


def _stacked(rows: Sequence[dict[str, Any]]) -> list[Collected]:
    """By token; a token without a prompt is empty."""
    found = []
    for token in range(1 + max(row["token"] for row in rows)):
        own = [row for row in rows if row["token"] == token] or rows[:1]
        columns = {name: torch.stack([row[name] for row in own]) for name in ("logits", "features", "truth", "hidden")}
        curvature = {str(name): torch.stack([row[name] for row in own]) for name in CURVATURES}
        image = torch.tensor([row["image"] for row in own])
        stacked = Collected(**columns, curvature=curvature, pixels=rows[0]["pixels"], image=image)
        empty = torch.zeros(len(own), dtype=torch.bool)
        found.append(stacked if own[0]["token"] == token else stacked.part(empty))
    return found


def _save(keep: Path | None, stamp: Any, rows: list[dict[str, Any]], done: int, seconds: float) -> None:
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(keep, {"stamp": stamp, "rows": rows, "done": done, "seconds": seconds})


def _restore(keep: Path | None, stamp: dict[str, Any] | None) -> tuple[list[dict[str, Any]], int, float]:
    if keep is None or not keep.is_file():
        return [], 0, 0.0
    content = read_checkpoint(keep, CHECKPOINT_PARTS)
    check_same(content["stamp"] or {}, stamp or {}, keep.parent)
    return content["rows"], content["done"], content["seconds"]
