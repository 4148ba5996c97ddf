"""A mask through the slices of a volume, with an uncertainty on every slice."""

from napari_uncertsam.propagation.values import Anchor, Propagated

__all__ = ["Anchor", "Propagated"]
