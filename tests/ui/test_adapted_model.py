"""A model with its adapter is one of the widget's models."""

from __future__ import annotations

import torch

from napari_uncertsam.checkpoints import installed_path, resolve, write_part
from napari_uncertsam.prompts import Box
from tests.ui.helpers import combo, grey, pick


def test_it_is_listed_chosen_and_used(open_widget, private_cache) -> None:
    sha256 = resolve("bundled").sha256
    write_part(installed_path("adapter", sha256), "adapter", sha256, {"a": torch.ones(1)}, {})
    opened = open_widget(grey())
    models = combo(opened, "bundled")
    assert [models.itemText(k).split()[0] for k in range(2)] == ["bundled", "bundled+adapter"]
    opened.session.set_box(Box(38, 32, 89, 99))
    opened.settle()
    pick(opened, "bundled+adapter")
    assert opened.session.settings.model == "bundled+adapter"
    assert opened.loads[-1] == "bundled+adapter"
    assert opened.session.prediction.record["model"] == "bundled+adapter"
