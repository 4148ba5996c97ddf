"""Maps of slices that propagation filled in, made when they are looked at; the last few are kept."""

from __future__ import annotations

from collections import OrderedDict

from napari_uncertsam.estimators.measures import Measure
from napari_uncertsam.measure import maps_on_slice
from napari_uncertsam.prediction import Maps, Settings
from napari_uncertsam.propagation import Propagated

_KEPT = 8
#: Measures that propagation can tell.
_MEASURES: tuple[Measure, ...] = ("entropy", "mutual-information", "std")


def propagated_measure(settings: Settings) -> Measure:
    """The measure that was chosen, or entropy where it is none that propagation can tell."""
    return settings.measure if settings.measure in _MEASURES else "entropy"


class PropagatedMaps:
    """Makes maps, which takes some milliseconds, once for as long as they are among the last few."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, Measure], tuple[Propagated, Maps]] = OrderedDict()

    def of(self, propagated: Propagated, measure: Measure) -> Maps:
        """The maps of a slice.

        Parameters
        ----------
        propagated : Propagated
        measure : Measure
            Of the uncertainty map.
        """
        key = (id(propagated), measure)  # which is not used again as long as it is kept
        if key not in self._kept:
            maps = maps_on_slice(propagated.belief, propagated.view, propagated.shape, measure)
            self._kept[key] = (propagated, maps)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key][1]
