"""Which device is taken, and what it is called."""

from __future__ import annotations

import pytest
import torch

from napari_uncertsam.devices import best_device, choose_device, device_label
from napari_uncertsam.errors import EngineError


def test_the_cpu_is_always_there() -> None:
    cpu = choose_device("cpu")
    assert cpu.type == "cpu"
    assert device_label(cpu) == f"CPU ({torch.get_num_threads()} threads)"


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_there_is(cuda: bool, mps: bool, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device().type == choose_device("auto").type == choose_device(None).type == best


def test_names_of_graphics_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    assert device_label(torch.device("cuda")) == "GPU: NVIDIA H200"
    assert device_label(torch.device("mps")) == "GPU: Apple (Metal)"


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", "", "cpu:x"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(EngineError, match="choose auto or cpu"):
        choose_device(name)
