"""Questions and answers in a real window: keys, buttons, the camera, what an answer changed."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QTableWidget

from napari_uncertsam.annotations import Patch
from napari_uncertsam.errors import EngineError
from napari_uncertsam.prediction import RefinedPrediction
from napari_uncertsam.prompts import Box, Point, Suggestion
from napari_uncertsam.refinement.rounds import Round
from napari_uncertsam.session import Session
from napari_uncertsam.suggestions.quality import Quality
from napari_uncertsam.ui.layers import LayerSet
from napari_uncertsam.ui.outline import ChangeOutline
from napari_uncertsam.ui.question_texts import (
    SETTLED,
    WAITING,
    change_text,
    is_settled,
    question_text,
    status_text,
    suggestion_rows,
)
from napari_uncertsam.ui.texts import result_text
from napari_uncertsam.volume import Volume
from tests.fakes import FakeEngine
from tests.predictions import predicted, refined
from tests.ui.helpers import Heartbeat, button, grey

CUT = Box(40, 34, 70, 97)
WHOLE = Box(38, 32, 89, 99)


def press(opened, key: str) -> None:
    handler = KeymapHandler()
    active = opened.viewer.layers.selection.active
    handler.keymap_providers = [active, opened.viewer] if active is not None else [opened.viewer]
    handler.press_key(key)


def asked(opened) -> Suggestion:
    return opened.session.suggestions[opened.coordinator.dialogue.chosen]


def ask_point(opened) -> Suggestion:
    """Let the first point be asked about; a box may be worth more."""
    kinds = [s.kind for s in opened.session.suggestions]
    opened.coordinator.dialogue.choose(kinds.index("point"))
    return asked(opened)


def contradict(opened) -> None:
    """Answer the first point so that the mask has to change there."""
    place, mask = ask_point(opened), opened.session.prediction.maps.mask
    press(opened, "U" if mask[int(place.y), int(place.x)] else "Y")
    opened.settle()


def look(viewer, y: float, x: float, zoom: float = 20.0) -> None:
    viewer.scene.camera.zoom = zoom
    viewer.scene.camera.center = (0.0, y, x)


@pytest.fixture
def opened(open_widget):
    """A box is predicted that cuts the object off."""
    opened = open_widget(grey(), name="photo")
    opened.session.set_box(CUT)
    opened.settle()
    assert asked(opened).kind == "point"
    return opened


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_with_keys(opened):
    question = opened.view.question()
    assert f"1 of {len(opened.session.suggestions)}: is the place numbered 1 inside the object?" in question
    assert "An answer is worth about" in question
    first = ask_point(opened)
    press(opened, "U")
    opened.settle()
    assert opened.session.prompts.points == (Point(first.y, first.x, False),)
    assert "Uncertain area" in opened.view.question()
    unknown = ask_point(opened)
    press(opened, "D")
    opened.settle()
    assert opened.session.entry.dismissed == (unknown,)
    assert unknown not in opened.session.suggestions
    second = ask_point(opened)
    press(opened, "Y")
    opened.settle()
    assert opened.session.prompts.points[1] == Point(second.y, second.x, True)


def test_a_question_is_answered_with_buttons(opened):
    for text, check in (
        ("Outside (U)", lambda s: opened.session.prompts.points[-1] == Point(s.y, s.x, False)),
        ("Inside (Y)", lambda s: opened.session.prompts.points[-1] == Point(s.y, s.x, True)),
        ("Don't know (D)", lambda s: s in opened.session.entry.dismissed),
    ):
        suggestion = ask_point(opened)
        QTest.mouseClick(button(opened, text), Qt.MouseButton.LeftButton)
        opened.settle()
        assert check(suggestion)


def test_a_suggested_box_is_used_or_left(opened):
    rows = [row for row, s in enumerate(opened.session.suggestions) if s.box is not None]
    opened.coordinator.dialogue.choose(rows[0])
    box = asked(opened).box
    assert "instead of yours?" in opened.view.question()
    button(opened, "Keep mine (U)").click()
    assert opened.session.prompts.box == CUT
    assert all(s.box is None for s in opened.session.suggestions)
    press(opened, "Control-Z")
    opened.settle()
    assert asked(opened).box == box  # what was taken back is asked again
    button(opened, "Use it (Y)").click()
    opened.settle()
    assert opened.session.prompts.box == box
    assert "Uncertain area" in opened.view.question()


def test_the_closed_form_comes_first_and_the_model_s_after_it(opened):
    came, before = [], opened.session.prediction
    session = opened.session
    session.prediction_changed.connect(lambda: came.append((session.prediction, opened.view.question())))
    opened.engine.delay = 0.2
    press(opened, "U")
    opened.settle()
    made = [p for p, _ in came if p is not before]
    assert [p.provisional for p in made] == [True, False]
    assert session.is_current
    assert f"{before.uncertain_px:,.0f} → {made[1].uncertain_px:,.0f} px" in opened.view.question()
    assert "…" not in opened.view.question()


def test_nothing_is_asked_until_the_model_has_looked_again(opened, qtbot):
    dialogue, session, layers = opened.coordinator.dialogue, opened.session, opened.viewer.layers
    table = opened.view.findChild(QTableWidget)
    rows = table.rowCount()
    gate = threading.Event()
    decode = opened.engine.decode
    opened.engine.decode = lambda *args, **more: (gate.wait(20), decode(*args, **more))[1]
    ask_point(opened)
    press(opened, "U")
    answered = session.prompts
    for _ in range(2):  # before and after what the closed form says
        assert dialogue.waiting
        assert dialogue.chosen is None
        assert dialogue.next()  # Tab stays on the canvas
        for key in ("Y", "U", "D"):
            press(opened, key)
            assert opened.message == WAITING
        dialogue.choose(2)
        assert (session.prompts, session.entry.dismissed, dialogue.chosen) == (answered, (), None)
        assert opened.view.question().startswith(WAITING)
        assert not button(opened, "Inside (Y)").isEnabled()
        assert not table.isEnabled()
        assert table.rowCount() == rows
        assert not len(layers["suggested points"].data)
        assert not len(layers["suggested boxes"].data)
        qtbot.waitUntil(lambda: session.prediction.provisional)
    assert "Uncertain area" not in opened.view.question()
    assert opened.view.question().endswith("the model is looking again …")
    gate.set()
    opened.settle()
    assert not dialogue.waiting
    assert dialogue.chosen == 0
    assert table.isEnabled()
    assert button(opened, "Inside (Y)").isEnabled()
    assert "1 of" in opened.view.question()
    assert len(layers["suggested points"].data) == sum(s.kind == "point" for s in session.suggestions)


@pytest.mark.parametrize("end", ["cancel", "undo", "object", "settings"])
def test_waiting_ends_whatever_happens(opened, qtbot, end):
    dialogue, session = opened.coordinator.dialogue, opened.session
    gate, decode, taken = threading.Event(), opened.engine.decode, asked(opened)
    opened.engine.decode = lambda *args, **more: (gate.wait(20), decode(*args, **more))[1]
    press(opened, "U")
    qtbot.waitUntil(lambda: session.prediction.provisional)
    assert dialogue.waiting
    if end == "cancel":
        opened.view.cancel_requested.emit()
        assert dialogue.chosen == 0
    elif end == "undo":
        press(opened, "Control-Z")
        assert asked(opened) is taken
    elif end == "object":
        session.new_object()
        assert not dialogue.waiting
        session.select_object(1)
        assert dialogue.chosen == 0
    else:
        session.set_settings(measure="margin")
    gate.set()
    opened.settle()
    assert not dialogue.waiting
    assert dialogue.chosen == 0


def test_without_anything_foreseen_the_model_is_awaited_all_the_same(opened, monkeypatch):
    monkeypatch.setattr(opened.coordinator.jobs, "foresee", lambda *_: None)
    press(opened, "U")
    assert opened.coordinator.dialogue.waiting
    opened.settle()
    assert opened.coordinator.dialogue.chosen == 0


def test_after_a_question_the_most_useful_one_is_asked(opened):
    dialogue, session = opened.coordinator.dialogue, opened.session
    dialogue.choose(1)
    press(opened, "D")
    assert dialogue.chosen == 0
    place = ask_point(opened)
    press(opened, "U")
    opened.settle()
    assert session.prompts.points == (Point(place.y, place.x, False),)
    assert asked(opened) is session.suggestions[0]


def test_a_provisional_answer_says_so_and_stays_when_the_model_fails(opened, qtbot, monkeypatch):
    decoded = opened.session.prediction

    def fails(*_args, **_more):
        raise EngineError("There was not enough memory.")

    monkeypatch.setattr(opened.coordinator.jobs, "predict", fails)
    press(opened, "U")
    opened.settle()
    assert opened.session.prediction.provisional
    assert opened.view.question().endswith("worked out without the model.")
    assert "not enough memory" in opened.message
    assert opened.coordinator.dialogue.chosen == 0  # it does not stay locked
    monkeypatch.undo()
    opened.coordinator.dialogue.choose(1)
    button(opened, "Try again").click()
    opened.settle()
    assert opened.session.is_current
    assert opened.coordinator.dialogue.chosen == 0
    press(opened, "Control-Z")
    assert opened.session.prediction is decoded


def test_undo_asks_the_same_question_again(opened):
    session, viewer = opened.session, opened.viewer
    prediction, suggestions, mask = session.prediction, session.suggestions, viewer.layers["mask"].data.copy()
    wrong = ask_point(opened)
    question = opened.view.question()
    press(opened, "Y")
    opened.settle()
    assert asked(opened) is not wrong
    press(opened, "Control-Z")
    opened.settle()
    assert session.prediction is prediction
    assert session.suggestions == suggestions
    assert asked(opened) is wrong
    assert opened.view.question() == question
    assert (viewer.layers["mask"].data == mask).all()
    press(opened, "U")
    assert session.prompts.points == (Point(wrong.y, wrong.x, False),)


def test_the_question_stays_when_other_places_come_and_go(opened):
    session, dialogue = opened.session, opened.coordinator.dialogue
    dialogue.choose(1)
    place, prediction = asked(opened), session.prediction
    moved = replace(place, y=place.y + 0.4)
    rest = [s for s in prediction.suggestions if s is not place]
    assert session.deliver(replace(prediction, suggestions=(*rest, moved)))
    assert dialogue.chosen == len(rest)
    assert asked(opened) is moved
    assert session.deliver(replace(prediction, suggestions=tuple(rest)))
    assert dialogue.chosen == len(rest) - 1
    assert session.deliver(replace(prediction, suggestions=()))
    assert dialogue.chosen is None
    assert "inside the object" not in opened.view.question()
    press(opened, "Y")
    assert "no suggestion to answer" in opened.message


# -- the camera --------------------------------------------------------------------------------------------------------


def test_the_camera_goes_along_with_the_questions_and_keeps_its_zoom(opened):
    camera, dialogue = opened.viewer.scene.camera, opened.coordinator.dialogue
    look(opened.viewer, 0, 0)
    assert dialogue.next()  # it was out of sight: not passed over
    assert dialogue.chosen == 0
    assert camera.center[1:] == pytest.approx((asked(opened).y, asked(opened).x))
    for _ in range(3):
        look(opened.viewer, 0, 0)
        press(opened, "U")
        opened.settle()
        assert camera.center[1:] == pytest.approx((asked(opened).y, asked(opened).x))
    assert camera.zoom == 20
    place = asked(opened)
    look(opened.viewer, place.y + 1, place.x - 1)
    dialogue.choose(dialogue.chosen)
    assert camera.center[1:] == (place.y + 1, place.x - 1)  # seen well enough


def test_the_camera_stays_while_somebody_draws(opened):
    camera = opened.viewer.scene.camera
    opened.coordinator.dialogue.next()
    look(opened.viewer, 3, 4)
    opened.session.set_box(WHOLE)
    opened.settle()
    opened.session.add_point(Point(60, 60))
    opened.settle()
    press(opened, "Control-Z")
    opened.settle()
    opened.session.new_object()
    opened.session.set_box(CUT)
    opened.settle()
    assert camera.center[1:] == (3, 4)


@pytest.mark.filterwarnings("ignore:Contours are not displayed:UserWarning")  # napari slices before anybody is told
def test_the_camera_finds_places_in_any_plane_of_a_scaled_volume(open_widget):
    data = np.full((40, 48, 64), -900, np.int16)
    data[10:31, 12:36, 14:51] = 60
    opened = open_widget(data, scale=(3, 1, 2), translate=(5, -7, 11), name="scan")
    opened.viewer.dims.order = (1, 0, 2)
    opened.viewer.dims.set_point(1, 13)
    opened.session.set_box(Box(10, 14, 24, 50))
    opened.settle()
    assert opened.session.plane == 1
    look(opened.viewer, 0, 0)
    opened.coordinator.dialogue.choose(0)
    place = asked(opened)
    assert opened.viewer.scene.camera.center[1:] == pytest.approx((5 + 3 * place.y, 11 + 2 * place.x))
    assert "mm²" in opened.view.question()
    opened.viewer.dims.ndisplay = 3
    opened.coordinator.dialogue.choose(1)
    opened.viewer.dims.ndisplay = 2
    press(opened, "U")
    opened.settle()
    opened.viewer.dims.ndisplay = 3  # with the outline there
    opened.settle()
    assert not opened.viewer.layers["changed"].data.any()


# -- what an answer changed --------------------------------------------------------------------------------------------


def test_changed_pixels_are_outlined_for_a_moment(opened, qtbot, tmp_path):
    layers, timer = opened.viewer.layers, opened.coordinator.dialogue._timer
    timer.setInterval(60_000)
    outline, active = layers["changed"], layers.selection.active
    names = [layer.name for layer in layers]
    assert not outline.data.any()
    mask = opened.session.prediction.maps.mask
    contradict(opened)
    now = opened.session.prediction.maps.mask
    came = np.zeros(mask.shape, np.int8)
    top, left = np.round(outline.translate).astype(int)
    height, width = outline.data.shape
    came[top : top + height, left : left + width] = outline.data
    assert (came == np.where(now & ~mask, 1, 2 * (mask & ~now))).all()
    assert outline.contour > 0
    assert "blue came" in opened.view.question() or "magenta left" in opened.view.question()
    assert list(layers.selection) == [active]
    opened.session.save(tmp_path)
    assert not any("changed" in p.name for p in tmp_path.iterdir())
    timer.setInterval(10)
    timer.start()
    qtbot.waitUntil(lambda: not outline.data.any())
    assert "Uncertain area" in opened.view.question()  # this stays
    assert not {"blue", "magenta"} & set(opened.view.question().replace("(", "").split())
    timer.setInterval(60_000)
    contradict(opened)
    assert outline.data.any()
    press(opened, "Control-Z")
    opened.settle()
    assert not outline.data.any()
    press(opened, "Control-Shift-Z")
    opened.settle()
    assert not outline.data.any()  # only what has just been answered
    assert layers["changed"] is outline
    assert [layer.name for layer in layers] == names
    assert layers.selection.active is active


def test_closing_takes_the_outline_along(opened):
    contradict(opened)
    assert opened.viewer.layers["changed"].data.any()
    opened.coordinator.close()
    assert [layer.name for layer in opened.viewer.layers] == ["photo", "mask [photo]"]


@pytest.mark.parametrize(("ndim", "plane"), [(2, 0), (3, 0), (3, 1), (3, 2)])
def test_the_outline_lies_over_the_pixels_that_changed(ndim, plane):
    viewer, shape = ViewerModel(), (20, 30) if ndim == 2 else (6, 20, 30)
    image = viewer.add_image(np.zeros(shape), scale=(3, 1.5, 2)[-ndim:], translate=(4, 5, 6)[-ndim:])
    outline = ChangeOutline(LayerSet(viewer, image, lambda: np.zeros(shape, np.uint16)))
    values = np.array([[1, 0], [-1, 1]], np.int8)
    for top, left in ((0, 0), (3, 2)):
        outline.show(Patch(top, left, values), plane, 4)
        layer = viewer.layers["changed"]
        for row, column in ((0, 0), (1, 0), (1, 1)):
            where = [top + row, left + column]
            index = where if ndim == 2 else [*where[:plane], 4, *where[plane:]]
            place = tuple(np.round(layer.world_to_data(image.data_to_world(index))).astype(int))
            assert layer.data[place] == (1 if values[row, column] > 0 else 2)
        assert np.count_nonzero(layer.data) == 3
        assert [x.name for x in viewer.layers.selection] == [image.name]
    image.translate = np.asarray(image.translate) + 1
    assert np.allclose(layer.world_to_data(image.data_to_world(index)), place)
    viewer.layers.remove(layer)  # by the user
    outline.show(Patch(0, 0, values), plane, 4)
    assert viewer.layers["changed"].data.any()
    outline.clear()
    outline.clear()
    assert not viewer.layers["changed"].data.any()


def test_the_outline_of_a_huge_slice_holds_what_changed_alone():
    viewer, shape = ViewerModel(), (4096, 4096)
    image = viewer.add_image(np.broadcast_to(np.uint8(0), shape), contrast_limits=(0, 1))
    outline = ChangeOutline(LayerSet(viewer, image, lambda: np.zeros(shape, np.uint16)))
    outline.show(Patch(100, 200, np.ones((8, 9), np.int8)), 0, 0)
    assert viewer.layers["changed"].data.shape == (10, 11)
    assert viewer.layers["changed"].contour > 0
    outline.show(Patch(100, 200, np.ones((3000, 2000), np.int8)), 0, 0)
    assert viewer.layers["changed"].contour == 0  # an outline would stop the window


# -- what is said ------------------------------------------------------------------------------------------------------


def test_the_list_shows_what_an_answer_brings(opened):
    table = opened.view.findChild(QTableWidget)
    assert [table.horizontalHeaderItem(n).text() for n in range(3)] == ["#", "worth", "P(inside)"]
    assert table.item(0, 1).text().endswith(" px")
    assert "Entropy" in table.item(0, 1).toolTip()
    prediction = opened.session.prediction
    unknown = tuple(replace(s, gain=math.nan) for s in prediction.suggestions)
    assert opened.session.deliver(replace(prediction, suggestions=unknown))
    assert table.item(0, 1).text() == "-"
    assert "Uncertainty there" in opened.view.question()


def test_the_card_and_the_panel_tell_when_nothing_more_is_expected(opened):
    session = opened.session
    assert SETTLED not in opened.view.question()
    prediction = session.prediction
    small = tuple(replace(s, gain=0.1) for s in prediction.suggestions)
    told = replace(prediction, suggestions=small, quality=Quality(0.912, 0.843, 0.951), uncertain_px=512.3)
    assert session.deliver(told)
    assert opened.message == SETTLED
    assert opened.view.question().startswith(f"{SETTLED}\nIf you like: 1 of ")
    assert "likely 0.91 (90 %: 0.84 to 0.95)" in opened.view._card.text()
    assert "512 px" in opened.view._card.text()
    press(opened, "Y")  # is still taken
    opened.settle()
    assert len(session.prompts.points) == 1


def test_a_method_that_cannot_tell_never_says_that_it_is_settled():
    session = Session(Volume(np.zeros((32, 40), np.uint8)))
    session.set_box(Box(2, 2, 9, 9))
    place = Suggestion("point", 3, 3, 0.5, 0.5)
    prediction = predicted(session.request, (32, 40), Box(2, 2, 9, 9), suggestions=[place])
    assert not is_settled(None)
    assert not is_settled(prediction)
    assert is_settled(replace(prediction, suggestions=(replace(place, gain=0.0),)))
    assert is_settled(replace(prediction, suggestions=(), quality=Quality(0.9, 0.8, 1.0)))
    assert not is_settled(replace(prediction, suggestions=(replace(place, gain=9.0),)))


def test_texts_of_questions():
    box = Suggestion("box", 5, 5, 0.4, 0.5, Box(1, 1, 9, 9), gain=0.03)
    told = question_text([box], 0, (0.5, 0.5), has_box=False)
    assert (told.question, told.yes, told.no) == ("1 of 1: use the box numbered 1?", "Use it", "No box")
    assert told.effect == "An answer is worth about less than 0.1 px."
    assert question_text([box], 0, None, is_optional=True).question.startswith("If you like: 1 of 1: ")
    assert question_text([box], None, None).question == ""
    (row,) = suggestion_rows([replace(box, gain=400.0)], (0.5, 0.5))
    assert "400 px (100 mm²)" in row.tooltip


def test_texts_of_changes():
    session = Session(Volume(np.zeros((32, 40), np.uint8)))
    session.set_box(Box(2, 2, 9, 9))
    session.deliver(replace(predicted(session.request, (32, 40), Box(2, 2, 9, 9)), uncertain_px=394.0))
    session.add_point(Point(5, 12))
    made = replace(predicted(session.request, (32, 40), Box(2, 2, 9, 14)), uncertain_px=271.0, provisional=True)
    session.deliver(made)
    assert (
        change_text(session.last_change, waiting=True) == "Mask +40 / \N{MINUS SIGN}0 px; the model is looking again …"
    )
    assert change_text(session.last_change) == "Mask +40 / \N{MINUS SIGN}0 px, worked out without the model."
    session.deliver(replace(made, uncertain_px=506.0, provisional=False))
    text = change_text(session.last_change)
    assert text.startswith("Uncertain area 394 → 506 px (+28 %), mask +40 / \N{MINUS SIGN}0 px.")
    assert text.endswith("more is open than it seemed.")


def test_a_refused_refinement_says_what_else_to_do():
    session = Session(Volume(np.zeros((32, 40), np.uint8)))
    session.set_box(Box(2, 2, 9, 9))
    session.deliver(predicted(session.request, (32, 40), Box(2, 2, 9, 9)))
    session.deliver_refinement(refined(session.prediction, None))
    assert status_text(session).endswith("If your box is off, draw another.")


def test_every_round_that_was_tried_is_told():
    session = Session(Volume(np.zeros((32, 40), np.uint8)))
    session.set_box(Box(2, 2, 9, 9))
    prediction = predicted(session.request, (32, 40), Box(2, 2, 9, 9))
    prompts = session.prompts
    tried = (
        Round(0.3, 0.2, True, "It went down.", Box(1, 1, 9, 9), (Point(3, 3),), prompts),
        Round(0.2, 0.25, False, "It went up.", Box(1, 1, 9, 9), (), prompts),
    )
    text = result_text(prediction, RefinedPrediction(prediction, prediction, tried), None)
    assert text.rounds.splitlines() == [
        "Round 1 (another box and 1 point), kept: It went down.",
        "Round 2 (another box), not kept: It went up.",
    ]


def test_answering_does_not_stop_the_window(open_widget):
    opened = open_widget(grey(), engine=FakeEngine(delay=0.1))
    opened.session.set_box(CUT)
    opened.settle()
    with Heartbeat() as heartbeat:
        press(opened, "U")
        opened.settle()
    # The real bound is measured in benchmarks/gui_block.py; here the machine may be busy with other tests.
    assert heartbeat.longest < 0.4
