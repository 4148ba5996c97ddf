"""What commands that segment one image are told: image, slice, prompts, folder; refused before anything is computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.prompts import Prompts
    from napari_uncertsam.volume import Volume

_POINT_OPTIONS = ("--point", "--negative")


class PointsCommand(TyperCommand):
    """A command whose point options take two numbers each and may be repeated, which typer cannot declare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join ``--point Y X`` into one value, then parse as usual."""
        return super().parse_args(ctx, join_points(args))


def join_points(args: Sequence[str]) -> list[str]:
    """Arguments with the two numbers after each point option as one.

    Examples
    --------
    >>> join_points(["a.png", "--point", "3", "-4.5", "--box", "0", "0", "9", "9"])
    ['a.png', '--point=3 -4.5', '--box', '0', '0', '9', '9']
    """
    joined, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        if word in _POINT_OPTIONS:
            # Fewer than two are left to the parser of points, which says what is wrong.
            numbers = list(itertools.takewhile(lambda w: not w.startswith("--"), rest[:2]))
            word = f"{word}={' '.join(numbers)}"
            del rest[: len(numbers)]
        joined.append(word)
    return joined


def parse_points(texts: Sequence[str] | None, option: str) -> list[tuple[float, float]]:
    """Points of an option that may be repeated, as :func:`join_points` leaves them.

    Examples
    --------
    >>> parse_points(["3 -4.5"], "--point")
    [(3.0, -4.5)]
    """
    points = []
    for text in texts or ():
        try:
            y, x = (float(word) for word in text.split())
        except ValueError as error:
            raise typer.BadParameter(f"{option} takes two numbers, Y and X, not {text!r}.") from error
        points.append((y, x))
    return points


def prompts_of(
    box: tuple[float, float, float, float] | None,
    positive: Sequence[tuple[float, float]],
    negative: Sequence[tuple[float, float]],
) -> Prompts:
    """Prompts as they were given.

    Raises
    ------
    InputError
        If there are none.
    """
    from napari_uncertsam.prompts import Box, Point, Prompts

    points = [Point(y, x, True) for y, x in positive] + [Point(y, x, False) for y, x in negative]
    prompts = Prompts(tuple(points), None if box is None else Box(*box))
    if prompts.is_empty:
        raise InputError("There is nothing to segment from; give --box Y0 X0 Y1 X1 or at least one --point Y X.")
    return prompts


def clipped_to(shape: tuple[int, int], prompts: Prompts) -> Prompts:
    """Prompts with a box that ends at the border of the slice, which is told.

    Raises
    ------
    InputError
        If a prompt lies outside.
    """
    clipped = prompts.clipped(*shape)
    if clipped.box != prompts.box:
        typer.echo(f"The box was cut off at the border of the {shape[0]} x {shape[1]} image.", err=True)
    return clipped


def read_image(path: Path, series: str | None, volume_index: int | None) -> Volume:
    """The volume to work on; what is unusual about it is told on stderr.

    Raises
    ------
    InputError
        If it cannot be read, or results on it cannot be written as NIfTI.
    """
    from napari_uncertsam import io

    volume = open_image(path, series, volume_index)
    # Told before the minutes of computing.
    io.check_nifti_geometry(volume)
    return volume


def open_image(path: Path, series: str | None, volume_index: int | None) -> Volume:
    """The same without a look at what can be written."""
    from napari_uncertsam import io

    volume = io.read(path, series=series, volume=volume_index)
    for note in volume.notes:
        typer.echo(f"Note: {note}", err=True)
    return volume


def choose_slice(volume: Volume, plane: int, index: int | None) -> int:
    """The slice asked for, checked; 0 where there is only one.

    Raises
    ------
    InputError
        If there is no such plane or slice, or a volume of several slices is given without saying which.
    """
    count = volume.n_slices(plane)
    if index is None:
        if count > 1:
            raise InputError(
                f"{volume.name or 'The volume'} has {count} slices in plane {plane}; "
                f"say which one the prompts are on with --slice (0 to {count - 1})."
            )
        return 0
    if not 0 <= index < count:
        raise InputError(f"There is no slice {index} in plane {plane}; choose one from 0 to {count - 1}.")
    return index


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds files.

    Raises
    ------
    InputError
        If it does and may not be written to, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise InputError(f"The folder {out} holds files already; choose another --out, or allow it with --overwrite.")
