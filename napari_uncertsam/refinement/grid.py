"""Where prompts of a view lie on its low-resolution grid, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_uncertsam.prompts import Box, Point, Prompts
from napari_uncertsam.view import View


@dataclass(frozen=True)
class Grid:
    """A grid of ``shape = (h, w)`` cells over a view; prompts of the view are in the frame that the engine takes.

    Parameters
    ----------
    view : View
    shape : (int, int)
    resolution : int
        Side of the model's input in pixels.
    """

    view: View
    shape: tuple[int, int]
    resolution: int

    def box_to_cells(self, box: Box) -> Box:
        """A box prompt as the cells that it covers."""
        pixels = self.view.prompts_to_slice(Prompts(box=box), self.resolution).box
        assert pixels is not None
        return self.view.box_to_grid(pixels, self.shape)

    def box_to_view(self, box: Box) -> Box:
        """A box of cells as a box prompt."""
        prompt = self.prompts(box, ()).box
        assert prompt is not None
        return prompt

    def points_to_cells(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """Point prompts in fractional cells."""
        pixels = self.view.prompts_to_slice(Prompts(tuple(points)), self.resolution).points
        return [self.view.slice_to_grid(p.y, p.x, self.shape) for p in pixels]

    def prompts(self, box: Box, points: tuple[tuple[int, int, bool], ...]) -> Prompts:
        """A box of cells and labelled cells as prompts; nobody gave these labels."""
        placed = tuple(Point(*self.view.point_to_slice(y, x, self.shape), yes, given=False) for y, x, yes in points)
        return self.view.prompts_to_view(Prompts(placed, self.view.box_to_slice(box, self.shape)), self.resolution)
