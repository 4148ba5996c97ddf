"""What the user sees: a view that emits what is wanted and shows what it is told. No logic, no session, no napari."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QLabel,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_uncertsam.ui.panels import ResultCard, StatusView, SuggestionList
from napari_uncertsam.ui.parts import button, combo_box, enable_item, fill, heading, key_help, line, note, row, swatch
from napari_uncertsam.ui.question import QuestionPanel
from napari_uncertsam.ui.question_texts import QuestionText, SuggestionRow
from napari_uncertsam.ui.styles import BOX_COLOUR, NEGATIVE_COLOUR, POSITIVE_COLOUR
from napari_uncertsam.ui.texts import ResultText
from napari_uncertsam.ui.volume_panel import VolumePanel
from napari_uncertsam.ui.window_fields import WindowFields

_MODES = (
    ("box", "Box", BOX_COLOUR, "Drag a box around the object; a new box replaces the old one (B)"),
    ("positive", "Inside", POSITIVE_COLOUR, "Click points inside the object (P)"),
    ("negative", "Outside", NEGATIVE_COLOUR, "Click points that do not belong to the object (X)"),
)


class RefineView(StatusView):
    """The controls; every `..._requested` signal is something the user wants."""

    image_requested = Signal(int)
    model_requested = Signal(str)
    download_requested = Signal(str)
    method_requested = Signal(str)
    measure_requested = Signal(str)
    fit_requested = Signal()
    window_requested = Signal(str)
    own_window_requested = Signal(float, float)  # level and width
    zoom_requested = Signal(bool)
    object_requested = Signal(int)
    new_object_requested = Signal()
    clear_requested = Signal()
    mode_requested = Signal(str)
    refine_requested = Signal()
    answer_requested = Signal(int, bool)
    dismiss_requested = Signal(int)
    chosen_answer_requested = Signal(bool)
    chosen_dismiss_requested = Signal()
    suggestion_requested = Signal(int)
    undo_requested = Signal()
    redo_requested = Signal()
    save_requested = Signal()
    cancel_requested = Signal()
    action_requested = Signal()

    def __init__(self, keys: Sequence[tuple[str, str]] = (), note: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        #: The slices of a volume; hidden for a single image.
        self.slices = VolumePanel()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 6, 3, 6)
        column.setSpacing(8)
        for part in (
            self._settings(),
            line(),
            self._object_row(),
            self._mode_row(),
            self._refine_button(),
            self._result(),
            self.slices,
            heading("Suggestions", "Places where an answer would help most, most helpful first (Tab goes on)"),
            self._questions(),
            self._suggestions(),
            self._history_row(),
            key_help(keys, note),
        ):
            column.addWidget(part)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        self._status.cancelled.connect(self.cancel_requested)
        self._status.acted.connect(self.action_requested)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 4, 2, 6)
        layout.addWidget(area, 1)
        layout.addWidget(line())
        layout.addWidget(self._status)
        self.setMinimumWidth(310)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _settings(self) -> QWidget:
        self._image = combo_box("Image to segment: 2D, or a slice of a volume")
        self._model = combo_box("Model; what is not downloaded can be fetched with the button beside it")
        self._method = combo_box("Where the uncertainty comes from")
        self._measure = combo_box("What the map of uncertainty shows")
        self._window = combo_box("Intensities that you and the model see, black to white; 'as displayed': the layer's")
        self._own_window = WindowFields()
        self._own_window.changed.connect(self.own_window_requested)
        self._image.activated.connect(self.image_requested)
        self._model.activated.connect(lambda _: self.model_requested.emit(self._model.currentData()))
        self._method.activated.connect(lambda _: self.method_requested.emit(self._method.currentData()))
        self._measure.activated.connect(lambda _: self.measure_requested.emit(self._measure.currentData()))
        self._window.activated.connect(lambda _: self.window_requested.emit(self._window.currentText()))
        self._download = QPushButton("Download")
        self._download.hide()
        self._download.clicked.connect(lambda: self.download_requested.emit(self._model.currentData()))
        self._note = note("Method")
        self._fit = button("Fit", "Once for this model, on made-up images; you can go on meanwhile", self.fit_requested)
        self._zoom = QCheckBox("Zoom to the object")
        self._zoom.setToolTip("The model looks at the surroundings of the prompts only: better for small objects")
        self._zoom.clicked.connect(self.zoom_requested)
        widget = QWidget()
        form = QFormLayout(widget)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(5)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._notes = QLabel("⚠")
        self._notes.setStyleSheet("color: #ffb347; font-weight: bold;")
        self._notes.hide()
        form.addRow("Image", row((self._image, 1), self._notes))
        form.addRow("Model", self._model)
        form.addRow("", self._download)
        form.addRow("Method", self._method)
        form.addRow(self._note)
        form.addRow(self._fit)
        form.addRow("Measure", self._measure)
        form.addRow("Window", self._window)
        form.addRow("", self._own_window)
        form.addRow("", self._zoom)
        self._form = form
        for hidden in (self._download, self._note, self._fit, self._own_window):
            form.setRowVisible(hidden, False)
        return widget

    def _object_row(self) -> QWidget:
        self._object = QSpinBox()
        self._object.setRange(1, 65535)
        self._object.setToolTip("Object that boxes and points go to; its value in the mask")
        self._object.setAccessibleName("Object")
        self._object.setKeyboardTracking(False)
        self._object.setMinimumWidth(60)  # five digits are rare, a narrow dock is not
        self._object.valueChanged.connect(self.object_requested)
        new = button("New object", "Start the next object (N)", self.new_object_requested)
        clear = button("Clear", "Remove this object's box, points and mask from this slice", self.clear_requested)
        return row(QLabel("Object"), self._object, (new, 1), (clear, 1))

    def _mode_row(self) -> QWidget:
        self._modes = QButtonGroup(self)
        buttons: list[tuple[QWidget, int]] = []
        for name, text, colour, tip in _MODES:
            choice = QPushButton(text)
            choice.setIcon(swatch(colour, round_=name != "box"))
            choice.setCheckable(True)
            choice.setToolTip(tip)
            choice.setProperty("mode", name)
            choice.clicked.connect(lambda _checked=False, mode=name: self.mode_requested.emit(mode))
            self._modes.addButton(choice)
            buttons.append((choice, 1))
        return row(*buttons)

    def _refine_button(self) -> QWidget:
        self._refine = button(
            "Refine by uncertainty",
            "Try a better box and answers at the most uncertain points; kept only if the uncertainty goes down (R)",
            self.refine_requested,
        )
        self._refine.setMinimumHeight(32)
        self._refine.setStyleSheet("QPushButton { font-weight: bold; }")
        return self._refine

    def _result(self) -> QWidget:
        self._card = ResultCard()
        return self._card

    def _questions(self) -> QWidget:
        self._question = QuestionPanel()
        self._question.answered.connect(self.chosen_answer_requested)
        self._question.not_known.connect(self.chosen_dismiss_requested)
        return self._question

    def _suggestions(self) -> QWidget:
        self._list = SuggestionList()
        self._list.answered.connect(self.answer_requested)
        self._list.dismissed.connect(self.dismiss_requested)
        self._list.chosen.connect(self.suggestion_requested)
        return self._list

    def _history_row(self) -> QWidget:
        self._undo = button("Undo", "Take back the last step, any number of times (Ctrl+Z)", self.undo_requested)
        self._redo = button("Redo", "Take back an undo (Ctrl+Shift+Z)", self.redo_requested)
        self._save = button("Save…", "Save masks, maps, prompts and a summary to a folder", self.save_requested)
        return row((self._undo, 1), (self._redo, 1), (self._save, 1))

    # -- what is shown -------------------------------------------------------------------------------------------

    def set_images(self, names: Sequence[str], current: int | None) -> None:
        """Image layers to choose from."""
        fill(self._image, [(name, None) for name in names], current, "open an image")

    def set_notes(self, notes: Sequence[str]) -> None:
        """What has to be known about the image, behind a small sign beside its name; nothing shows no sign."""
        self._notes.setToolTip("\n".join(notes))
        self._notes.setAccessibleName(f"Notes on the image: {' '.join(notes)}" if notes else "")
        self._notes.setVisible(bool(notes))

    def set_models(self, models: Sequence[tuple[str, str]], current: str) -> None:
        """Models as (name, text)."""
        names = [name for name, _ in models]
        fill(self._model, [(text, name) for name, text in models], names.index(current) if current in names else None)

    def set_download(self, text: str, *, enabled: bool = True) -> None:
        """Offer to download the chosen model; an empty text offers nothing."""
        self._download.setText(text)
        self._download.setEnabled(enabled)
        self._form.setRowVisible(self._download, bool(text))

    def set_methods(self, methods: Sequence[tuple[str, str, str]], current: str, tooltip: str) -> None:
        """Methods as (name, title, which question its uncertainty answers); the tooltip is about the current one."""
        names = [name for name, _, _ in methods]
        row = names.index(current) if current in names else None
        fill(self._method, [(title, name) for name, title, _ in methods], row)
        for number, (_, _, answers) in enumerate(methods):
            self._method.setItemData(number, answers, Qt.ItemDataRole.ToolTipRole)
        self._method.setToolTip(tooltip)

    def set_measures(self, measures: Sequence[tuple[str, str, str, bool]], current: str) -> None:
        """Measures as (name, title, tooltip, whether the method has it)."""
        names = [name for name, _, _, _ in measures]
        row = names.index(current) if current in names else None
        fill(self._measure, [(title, name) for name, title, _, _ in measures], row)
        for number, (_, _, tooltip, enabled) in enumerate(measures):
            self._measure.setItemData(number, tooltip, Qt.ItemDataRole.ToolTipRole)
            enable_item(self._measure, number, enabled)
        shown = "" if row is None else f".\n{measures[row][1]}: {measures[row][2]}"
        self._measure.setToolTip(f"What the map of uncertainty shows{shown}")

    def set_method_note(self, text: str, fit: str) -> None:
        """What the chosen method lacks, and a button that fits it; empty texts show nothing."""
        self._note.setText(text)
        self._fit.setText(fit)
        self._form.setRowVisible(self._note, bool(text))
        self._form.setRowVisible(self._fit, bool(fit))

    def set_windows(
        self, names: Sequence[str], current: str, *, enabled: bool = True, own: tuple[float, float] | None = None
    ) -> None:
        """Intensity windows to choose from, and the fields for one of the user's own with its level and width."""
        fill(self._window, [(name, None) for name in names], list(names).index(current) if current in names else None)
        self._window.setEnabled(enabled)
        self._form.setRowVisible(self._own_window, own is not None)
        if own is not None:
            self._own_window.set_values(*own)

    def set_zoom(self, zoom: bool) -> None:
        """Whether the model looks at the surroundings of the prompts only."""
        self._zoom.setChecked(zoom)

    def set_object(self, object_id: int) -> None:
        """The object that prompts go to."""
        self._object.blockSignals(True)
        self._object.setValue(object_id)
        self._object.blockSignals(False)

    def set_mode(self, mode: str) -> None:
        """What a click does: "box", "positive", "negative", or "" for none of them."""
        self._modes.setExclusive(False)
        for choice in self._modes.buttons():
            choice.setChecked(choice.property("mode") == mode)
        self._modes.setExclusive(bool(mode))

    def set_result(self, text: ResultText) -> None:
        """Uncertainty, area and the last run."""
        self._card.set_result(text)

    def set_device(self, text: str) -> None:
        """Model and device, before there is a result that says so."""
        self._card.set_device(text)

    def set_suggestions(self, rows: Sequence[SuggestionRow], chosen: int | None) -> None:
        """The ranked suggestions."""
        self._list.set_rows(rows, chosen)

    def set_invitation(self, text: str) -> None:
        """What is said where there are no suggestions; an empty text is how to come by some."""
        self._list.set_invitation(text)

    def set_chosen(self, chosen: int | None) -> None:
        """The suggestion that Y, U and D answer."""
        self._list.set_chosen(chosen)

    def set_question(self, text: QuestionText) -> None:
        """What is asked about the chosen suggestion."""
        self._question.set_question(text)

    def set_answerable(self, answerable: bool) -> None:
        """Whether questions can be answered now; what is listed stays where it is."""
        self._question.set_answerable(answerable)
        self._list.setEnabled(answerable)

    def set_change(self, text: str) -> None:
        """What the last answer changed."""
        self._question.set_change(text)

    def set_advice(self, text: str) -> None:
        """Whether it is worth going on."""
        self._question.set_note(text)

    def question(self) -> str:
        """All that the panel of the dialogue says."""
        return self._question.text()

    def set_history(self, can_undo: bool, can_redo: bool) -> None:
        """Whether there is something to undo or redo."""
        self._undo.setEnabled(can_undo)
        self._redo.setEnabled(can_redo)

    def set_ready(self, *, refine: bool, save: bool) -> None:
        """Which of the actions make sense now."""
        self._refine.setEnabled(refine)
        self._save.setEnabled(save)

    # -- questions -----------------------------------------------------------------------------------------------

    def ask_folder(self) -> str:
        """A folder of the user's choice, empty when they changed their mind."""
        return str(QFileDialog.getExistingDirectory(self, "Save masks, maps and prompts to a folder"))

    def ask_overwrite(self, text: str) -> bool:
        """Whether files may be replaced."""
        answer = QMessageBox.question(self, "Replace files?", text)
        return bool(answer == QMessageBox.StandardButton.Yes)
