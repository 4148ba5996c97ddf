"""A file that holds several volumes, and nobody has said which."""

from __future__ import annotations

from collections.abc import Sequence

from napari_uncertsam.errors import InputError


class ChoiceNeededError(InputError):
    """A file or folder holds several volumes; the sentence lists them, the attributes let a program ask.

    Parameters
    ----------
    message : str
    argument : str
        The argument of `read` that chooses, ``"series"`` or ``"volume"``.
    options : sequence of str
        One line for a person to each volume.
    values : sequence of str or int
        What to give as that argument, in the same order.
    """

    def __init__(self, message: str, argument: str, options: Sequence[str], values: Sequence[str | int]) -> None:
        super().__init__(message)
        self.argument = argument
        self.options = tuple(options)
        self.values = tuple(values)
