"""The sentence at the foot of a widget, and what its button does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class MessageView(Protocol):
    """A view that shows a sentence."""

    def set_message(self, text: str, *, error: bool = False, action: str = "") -> None:
        """Say a sentence, with a button that answers it or without."""


class Messages:
    """Says one sentence at a time.

    Parameters
    ----------
    view : MessageView
    """

    def __init__(self, view: MessageView) -> None:
        self._messages = view
        self._action: Callable[[], None] | None = None

    def say(self, text: str) -> None:
        """Show a sentence."""
        self._action = None
        self._messages.set_message(text)

    def complain(self, text: str) -> None:
        """Show a sentence about something that did not work."""
        self._action = None
        self._messages.set_message(text, error=True)

    def offer(self, text: str, button: str, action: Callable[[], None], *, error: bool = False) -> None:
        """Show a sentence with a button that answers it."""
        self._action = action
        self._messages.set_message(text, error=error, action=button)

    def act(self) -> None:
        """Do what was offered."""
        action, self._action = self._action, None
        if action is not None:
            action()
