"""Exceptions whose message is a sentence that the user can act on.

Everything a user can cause (a truncated file, a box outside the image, a missing checkpoint) raises a subclass of
:class:`UncertSamError`. The widget shows the message, the command line prints it and exits with status 2; neither shows
a traceback.
"""

from __future__ import annotations


class UncertSamError(Exception):
    """Base class: ``str(error)`` is one clear sentence naming the bad value and what to do about it."""


class InputError(UncertSamError, ValueError):
    """An image, volume, prompt or setting that cannot be used as given."""


class CheckpointError(UncertSamError, RuntimeError):
    """A model checkpoint that is missing, corrupt, of the wrong kind, or could not be downloaded."""


class EngineError(UncertSamError, RuntimeError):
    """The model could not run: out of memory, or no usable device."""


class Cancelled(UncertSamError):
    """The work was cancelled by the user or superseded by a newer request; nothing went wrong."""
