"""The panel that asks about one suggestion at a time, and says what the last answer changed."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_uncertsam.ui.parts import unbroken
from napari_uncertsam.ui.question_texts import QuestionText
from napari_uncertsam.ui.styles import BOX_COLOUR, CHOSEN_COLOUR, NEGATIVE_COLOUR, POSITIVE_COLOUR

_CHANGE_TIP = (
    "What your last answer changed; pixels outlined in blue came to the mask, those in magenta left it. The uncertain "
    "area is how many pixels the mask is expected to have wrong."
)


class QuestionPanel(QFrame):
    """One question with three answers; the frame has the colour of the place that is asked about."""

    answered = Signal(bool)
    not_known = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("question")
        self._question, self._effect = self._label("Question"), self._label("What an answer brings")
        self._change, self._note = self._label("What the last answer changed"), self._label("Advice")
        self._note.setStyleSheet("font-weight: bold;")
        self._change.setToolTip(_CHANGE_TIP)
        self._yes = self._button(POSITIVE_COLOUR, lambda: self.answered.emit(True))
        self._no = self._button(NEGATIVE_COLOUR, lambda: self.answered.emit(False))
        self._unknown = self._button("", lambda: self.not_known.emit())
        self._unknown.setText("Don't know (D)")
        self._unknown.setToolTip("Do not ask about this place again (D)")
        self._answers = QWidget()
        answers = QHBoxLayout(self._answers)
        answers.setContentsMargins(0, 2, 0, 2)
        answers.setSpacing(3)
        for button in (self._yes, self._no, self._unknown):
            answers.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(3)
        for part in (self._note, self._question, self._effect, self._answers, self._change):
            layout.addWidget(part)
        self.set_question(QuestionText())
        self.set_change("")
        self.set_note("")

    def set_question(self, text: QuestionText) -> None:
        """Ask, or ask nothing."""
        asks = bool(text.question)
        self._show(self._question, text.question)
        self._show(self._effect, text.effect)
        self._question.setToolTip(text.tip)
        self._question.setStyleSheet("" if text.is_optional else "font-weight: bold;")
        self._answers.setVisible(asks)
        self._yes.setText(f"{text.yes} (Y)")
        self._no.setText(f"{text.no} (U)")
        self._frame(CHOSEN_COLOUR if asks else BOX_COLOUR)

    def set_answerable(self, answerable: bool) -> None:
        """Whether the buttons answer; they stay where they are."""
        self._answers.setEnabled(answerable)

    def set_change(self, text: str) -> None:
        """Say what the last answer changed; an empty text says nothing."""
        self._show(self._change, text)

    def set_note(self, text: str) -> None:
        """Say whether it is worth going on; an empty text says nothing."""
        self._show(self._note, text)

    def text(self) -> str:
        """All that is shown, for tests and screen readers."""
        labels = (self._note, self._question, self._effect, self._change)
        return "\n".join(label.text() for label in labels if label.text()).replace("\N{NO-BREAK SPACE}", " ")

    def _show(self, label: QLabel, text: str) -> None:
        label.setText(unbroken(text))
        label.setVisible(bool(text))
        self.setVisible(bool(self.text()))

    def _frame(self, colour: str) -> None:
        self.setStyleSheet(
            f"#question {{ border: none; border-left: 3px solid {colour}; background: rgba(128, 128, 128, 28); }}"
        )

    def _label(self, name: str) -> QLabel:
        label = QLabel()
        label.setWordWrap(True)
        label.setAccessibleName(name)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    def _button(self, colour: str, clicked: Callable[[], None]) -> QPushButton:
        button = QPushButton()
        # The image keeps the keyboard, so that the next answer may be a key.
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.setMinimumHeight(28)
        style = "QPushButton { padding: 2px 1px; }"  # three of them fit into a narrow dock
        button.setStyleSheet(f"{style} QPushButton:enabled {{ color: {colour}; }}" if colour else style)
        button.clicked.connect(lambda _checked=False: clicked())
        return button
