"""The model's own mask given back to it with every click, as SAM is trained and evaluated.

A click corrects the mask that was there before it, so the model gets that mask beside the clicks. It is made from the
request alone, click by click in the same view, and not taken from what was shown: equal requests have equal
predictions, after an undo and from a saved session too. What was decoded for the clicks before is remembered, so that
one more click costs one more decode.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from napari_uncertsam.engine import Embedding, Engine
from napari_uncertsam.estimators.base import decoded_logits
from napari_uncertsam.prediction import Request
from napari_uncertsam.prompts import Box, MaskPrompt, Prompts
from napari_uncertsam.view import View

#: Masks that are remembered: those of as many clicks.
REMEMBERED = 64
_Key = tuple[str, int, int, object, View, Prompts, Box | None]


class FedBack:
    """Prompts of a request with the mask of all but its last click.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._masks: OrderedDict[_Key, MaskPrompt] = OrderedDict()

    def prompts(self, request: Request, embedding: Embedding, view: View, used: Prompts) -> Prompts:
        """What the model is asked with.

        Parameters
        ----------
        request : Request
            Tells the picture, and whether a box is the user's own.
        embedding : Embedding
            Of the view.
        view : View
        used : Prompts
            On the slice, all given; a box that clicks led to is among them.

        Returns
        -------
        `used` with a mask prompt in place of the one it has not; without the box that clicks led to, which the mask is
        better than. `used` itself where nothing is corrected: a box alone, a single click, or a mask from elsewhere.
        Points that an automatic round made up correct nothing: they are there from the first step.

        Examples
        --------
        A box and two clicks are asked in three steps: the box, the box and a click with the mask of the box, and all
        with the mask of that.
        """
        own_box = request.prompts.box is not None
        clicks = [number for number, point in enumerate(used.points) if point.given]
        if used.mask is not None or len(clicks) + own_box < 2:
            return used
        key = (request.image_id, request.plane, request.slice_index, request.window, view)
        asked, mask = used if own_box else used.with_box(None), None
        for count in range(0 if own_box else 1, len(clicks)):
            later = set(clicks[count:])
            points = tuple(point for number, point in enumerate(used.points) if number not in later)
            step = replace(used if mask is None else asked, points=points, mask=mask)
            mask = self._mask((*key, replace(step, mask=None), used.box), embedding, view, step)
        return asked.with_mask(mask)

    def _mask(self, key: _Key, embedding: Embedding, view: View, prompts: Prompts) -> MaskPrompt:
        """The mask of some prompts, which is the same whenever the prompts are: those before led to it."""
        if key in self._masks:
            self._masks.move_to_end(key)
            return self._masks[key]
        decoded = self._engine.decode(embedding, [view.prompts_to_view(prompts, self._engine.resolution)])
        mask = self._masks[key] = MaskPrompt(decoded_logits(decoded)[0])
        if len(self._masks) > REMEMBERED:
            self._masks.popitem(last=False)
        return mask
