"""Undo and redo: any number of steps in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_uncertsam.annotations import Key, State
from napari_uncertsam.prediction import Prediction
from napari_uncertsam.propagation import Propagated

#: Memory that predictions and propagated results of earlier steps may take; of those before them the masks alone are
#: kept.
PREDICTION_BYTES = 512 << 20


@dataclass
class _Step:
    """A state, and the keys in which the next one differs."""

    state: State
    keys: set[Key] = field(default_factory=set)


class History:
    """The present state, those before it, and those that were undone.

    Parameters
    ----------
    state : State, optional
        To begin with.
    limit_bytes : int
        Memory that predictions of earlier steps may take.

    Examples
    --------
    >>> history = History()
    >>> history.step(State((1, 2)))
    >>> history.undo(), history.state.objects, history.can_redo
    (True, (1,), True)
    """

    def __init__(self, state: State | None = None, limit_bytes: int = PREDICTION_BYTES) -> None:
        self.state = state or State()
        self.limit_bytes = limit_bytes
        self._done: list[_Step] = []
        self._undone: list[State] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a state before."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether a state was undone, and nothing was done since."""
        return bool(self._undone)

    @property
    def before(self) -> State | None:
        """The state one step back."""
        return self._done[-1].state if self._done else None

    def step(self, state: State) -> None:
        """Go on to a new state."""
        self._undone.clear()
        self._advance(state)
        self._fade()

    def amend(self, state: State) -> None:
        """Put another state in place of the present one: what a prediction adds is not a step of the user's."""
        if self._done:
            self._done[-1].keys |= self.state.changed_keys(state)
        self.state = state

    def undo(self) -> bool:
        """Go back one step; False when there is none."""
        if not self._done:
            return False
        self._undone.append(self.state)
        self.state = self._done.pop().state
        return True

    def redo(self) -> bool:
        """Take back an undo; False when there is none."""
        if not self._undone:
            return False
        self._advance(self._undone.pop())
        return True

    def _advance(self, state: State) -> None:
        self._done.append(_Step(self.state, self.state.changed_keys(state)))
        self.state = state

    def _fade(self) -> None:
        """Keep the masks alone of the predictions that were superseded longest ago, once there are too many."""
        total, newer = 0, self.state
        for index in range(len(self._done) - 1, -1, -1):
            step = self._done[index]
            for key in step.keys:
                kept = newer.entry(key).heavy
                for value in step.state.entry(key).heavy:
                    if any(value is held for held in kept):
                        continue
                    total += value.nbytes
                    if total > self.limit_bytes:
                        self._forget(key, value, index)
            newer = step.state

    def _forget(self, key: Key, value: Prediction | Propagated, index: int) -> None:
        """Fade one result in all states up to `index` that hold it."""
        for step in reversed(self._done[: index + 1]):
            entry = step.state.entry(key)
            if not any(value is held for held in entry.heavy):
                break
            step.state = step.state.with_entries({key: entry.faded(value)})
