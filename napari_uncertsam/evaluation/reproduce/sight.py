"""One slice seen whole by a model, as both papers show it: no zoom, the aspect not kept, prompts decoded by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_uncertsam.estimators.base import Belief, EnsembleBelief, decoded_logits
from napari_uncertsam.evaluation.cases import Case
from napari_uncertsam.prompts import Prompts
from napari_uncertsam.view import View

if TYPE_CHECKING:
    from napari_uncertsam.engine import Decoded, Embedding, Engine


@dataclass(frozen=True, eq=False)
class Sight:
    """What an engine made of a slice, and how to ask it about objects there.

    Parameters
    ----------
    engine : Engine
    embedding : Embedding
        Of the whole slice.
    view : View
        The whole slice.
    """

    engine: Engine
    embedding: Embedding
    view: View

    @classmethod
    def of(cls, engine: Engine, case: Case) -> Sight:
        """Look at the slice of a case.

        Raises
        ------
        InputError
            If the slice cannot be read.
        EngineError
            If the model fails.
        """
        image = case.seen_through.apply(case.volume.slice(case.plane, case.slice_index))
        return cls(engine, engine.embed(image), View.whole(*image.shape[:2]))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the slice."""
        return self.view.height, self.view.width

    def local(self, prompts: Prompts) -> Prompts:
        """Prompts of the slice as the engine takes them."""
        return self.view.prompts_to_view(prompts.clipped(*self.shape), self.engine.resolution)

    def decode(self, prompts: Sequence[Prompts]) -> Decoded:
        """One batch of prompts, in coordinates of the slice.

        Raises
        ------
        InputError
            If one of them says nothing.
        EngineError
            If the model fails.
        """
        return self.engine.decode(self.embedding, [self.local(given) for given in prompts])

    def average(self, prompts: Sequence[Prompts]) -> EnsembleBelief:
        """Belief of the mean probability of several prompts; raises as :meth:`decode`."""
        return EnsembleBelief(decoded_logits(self.decode(prompts)))

    def upscale(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Low-resolution logits ``(h, w)`` at the resolution of the slice, bilinear."""
        return self.view.local_map(logits, *self.shape)

    def mask(self, belief: Belief) -> NDArray[np.bool_]:
        """Where the belief's logits are positive, at the resolution of the slice."""
        return self.upscale(belief.logits()) > 0


def same_slice(first: Case, second: Case) -> bool:
    """Whether two cases of one image lie on the same slice, which then is embedded once."""
    return (first.volume, first.plane, first.slice_index) == (second.volume, second.plane, second.slice_index)
