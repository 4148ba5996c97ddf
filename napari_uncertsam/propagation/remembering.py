"""A walk with the model's own memory of the slices before: SAM 2 as it follows an object through a video.

One view serves the whole walk, because the memory is of places in it. When the object leaves the view, or becomes much
smaller, the walk is taken up in another view: the anchors and the last few slices are remembered again there.
"""

from __future__ import annotations

import numpy as np

from napari_uncertsam.engine import Decoded, RemembersSlices, Tracker
from napari_uncertsam.propagation.grids import Map, box_on_slice, following, moved
from napari_uncertsam.propagation.values import Anchor
from napari_uncertsam.propagation.walking import DRIFT, Ground, Step, mask_over
from napari_uncertsam.view import View

#: Side of the view relative to the box: the object moves and grows on its way.
ZOOM = 2.0
#: Slices that are remembered again in another view.
AGAIN = 3
#: The object has ended when it was absent on this many slices in a row.
ABSENT = 2
#: Logits of an absent object.
NOTHING = -8.0
#: How strongly predicted overlaps tell the mask tokens apart: e times as likely for a tenth more.
_TRUST = 10.0
_SURE = 12.0


class RememberingWalk:
    """A walk away from an anchor, perhaps towards another one that is known as well.

    Parameters
    ----------
    ground : Ground
        Its engine has a memory.
    anchor : Anchor
        Where the walk begins; its mask is not empty.
    towards : Anchor, optional
        At the other end of the walk.
    ends : bool
        Whether the object may end on the way.
    """

    def __init__(self, ground: Ground, anchor: Anchor, towards: Anchor | None = None, *, ends: bool) -> None:
        engine = ground.engine
        if not isinstance(engine, RemembersSlices):
            raise TypeError(f"{engine.name} has no memory")
        self._ground, self._engine, self._ends = ground, engine, ends
        self._start, self._anchors = anchor.slice_index, [a for a in (anchor, towards) if a is not None]
        box = box_on_slice(anchor.logits > 0, anchor.view)
        if towards is not None and (towards.logits > 0).any():
            box = box.union(box_on_slice(towards.logits > 0, towards.view))
        self._view = View.whole(*ground.shape)
        if ground.zoom:
            self._view = View.around(box, *ground.shape, ZOOM, ground.spacing)
        self._recent: list[Step] = []
        self._absent = 0
        self._tracker = self._begin()

    def _begin(self) -> Tracker:
        """A tracker that knows the anchors, in the present view."""
        tracker, resolution = self._engine.tracker(self._ground.count), self._engine.resolution
        for anchor in self._anchors:
            embedding = self._ground.look(anchor.slice_index, self._view)
            logits = mask_over(anchor, self._view, (resolution // 4, resolution // 4))
            asked = None if anchor.confirmed or anchor.prompts.is_empty else anchor.prompts
            if asked is not None and not (logits > 0).any():
                asked = None
            prompts = None if asked is None else self._view.prompts_to_view(asked, resolution)
            tracker.know(abs(anchor.slice_index - self._start), embedding, logits, prompts)
        return tracker

    def _follow(self) -> None:
        """Take the walk up in another view, if the object no longer fits the present one."""
        last = next((s for s in reversed(self._recent) if s.present and (s.mean > 0).any()), None)
        if last is None or not self._ground.zoom:
            return
        box = box_on_slice(last.mean > 0, last.view)
        view = following(self._view, box, self._ground.shape, self._ground.spacing, ZOOM)
        if view == self._view:
            return
        self._view = view
        self._tracker = self._begin()
        for step in self._recent[-AGAIN:]:
            number = abs(step.slice_index - self._start)
            self._tracker.look(number, self._ground.look(step.slice_index, view))
            self._tracker.remember(number, moved(step.mean, step.view, view))

    def step(self, index: int) -> Step | None:
        """What there is on the next slice; None where the object has been absent for two slices."""
        self._follow()
        number = abs(index - self._start)
        decoded = self._tracker.look(number, self._ground.look(index, self._view))
        self._tracker.remember(number)
        logits, variance = self._ground.logits_of(decoded)
        present = bool(decoded.object_score[0] > 0) and bool((logits > 0).any())
        if not present:
            logits = np.minimum(logits, NOTHING)
        total = variance + token_spread(decoded) + DRIFT * number
        step = Step(index, self._view, np.asarray(logits, np.float32), np.asarray(total, np.float32), present)
        self._recent = [*self._recent, step][-AGAIN:]
        self._absent = 0 if present else self._absent + 1
        return None if self._ends and self._absent >= ABSENT else step


def token_spread(decoded: Decoded) -> Map:
    """Variance of the logits between the model's own alternative masks, weighted by their predicted overlap."""
    logits = decoded.token_logits[0, 1:].detach().float().cpu().numpy().clip(-_SURE, _SURE)
    if len(logits) < 2:
        return np.zeros(decoded.logits.shape[-2:], np.float32)
    overlap = decoded.token_iou[0, 1:].detach().double().cpu().numpy()
    weight = np.exp(_TRUST * (overlap - overlap.max()))
    weight = (weight / weight.sum())[:, None, None]
    mean = (weight * logits).sum(0)
    return np.asarray((weight * (logits - mean) ** 2).sum(0), np.float32)
