"""The training loop on a straight line: schedule, interruption, best weights, and what it refuses."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_uncertsam.errors import Cancelled, InputError
from napari_uncertsam.training import loop
from napari_uncertsam.training.loop import LoopSettings, Trained, make_optimiser, train_head

SETTINGS = LoopSettings(steps=60, learning_rate=0.05, clip=1.0, validate_every=25, seed=4)
STAMP = {"head": "line"}


def line(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(2, 1)


class Problem:
    """Fit ``y = 3 a - 2 b + 1``; a step's loss comes in two parts."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.steps = module, 0
        #: Raised at the start of that step.
        self.trouble: dict[int, BaseException] = {}

    def loss(self, generator: torch.Generator) -> Iterator[Tensor]:
        self.steps += 1
        for _ in range(2):
            x = torch.randn(8, 2, generator=generator)
            if self.steps in self.trouble:
                raise self.trouble.pop(self.steps)
            yield self._of(x)

    def validation(self) -> float:
        return self._of(torch.randn(64, 2, generator=torch.Generator().manual_seed(1))).item()

    def _of(self, x: Tensor) -> Tensor:
        return (self.module(x)[:, 0] - (3 * x[:, 0] - 2 * x[:, 1] + 1)).square().mean()


def train(out: Path, settings: LoopSettings = SETTINGS, problem: Problem | None = None, **options: Any) -> Trained:
    problem = problem or Problem(line())
    return train_head(problem.module, problem.loss, problem.validation, settings, out, **{"stamp": STAMP, **options})


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def saves_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)


def test_the_rate_is_the_paper_s() -> None:
    """17,500 steps: 195 to warm up and 972 to cool down, constant between them."""
    settings = LoopSettings()
    rates = [settings.rate((step + 0.5) / settings.steps) / 1e-4 for step in range(settings.steps)]
    assert sum(rate < 1 - 1e-9 for rate in rates[:8000]) == pytest.approx(195, abs=1)
    assert sum(rate < 1 - 1e-9 for rate in rates[8000:]) == pytest.approx(972, abs=1)
    assert rates[97] == pytest.approx(0.5, abs=0.01)
    assert rates[-486] == pytest.approx(0.5, abs=0.01)
    assert 0 < rates[0] < 0.01
    assert 0 < rates[-1] < 0.01


@pytest.mark.usefixtures("saves_every_step")
@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), RuntimeError("power cut")])
def test_an_interrupted_training_ends_at_the_same_numbers(tmp_path: Path, trouble: BaseException) -> None:
    whole = train(tmp_path / "whole")
    interrupted = Problem(line())
    interrupted.trouble[34] = trouble
    with pytest.raises(type(trouble)):
        train(tmp_path / "parts", problem=interrupted)
    resumed = Problem(line(seed=9))  # other weights, which the checkpoint replaces
    ended = train(tmp_path / "parts", problem=resumed)
    assert resumed.steps == 60 - 33
    assert all(torch.equal(whole.weights[name], ended.weights[name]) for name in whole.weights)
    assert (whole.best_step, whole.validation) == (ended.best_step, ended.validation)
    first, second = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in curve(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert first == second


def test_an_interruption_loses_no_step(tmp_path: Path) -> None:
    """The last checkpoint may be two minutes old; one is saved on the way out."""
    problem = Problem(line())
    problem.trouble[8] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, problem=problem)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["step"] == 7
    after = Problem(line())
    assert train(tmp_path, problem=after).steps == 60
    assert after.steps == 53


def test_cancelling_keeps_what_was_done(tmp_path: Path) -> None:
    asked = itertools.count()
    with pytest.raises(Cancelled):
        train(tmp_path, cancelled=lambda: next(asked) == 5)
    problem = Problem(line())
    train(tmp_path, problem=problem)
    assert problem.steps == 55


def test_rows_of_a_crash_are_not_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = Problem(line())
    crashed.trouble[50] = RuntimeError("power cut")
    with pytest.raises(RuntimeError):
        train(tmp_path, problem=crashed)
    assert not (tmp_path / "checkpoint.pt").exists()  # too young for one
    train(tmp_path)
    assert [row["step"] for row in curve(tmp_path)] == ["20.0", "25.0", "40.0", "50.0", "60.0"]


def test_it_learns_reports_and_keeps_the_best(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    settings = LoopSettings(steps=400, learning_rate=0.05, clip=5.0, validate_every=100)
    trained = train(tmp_path, settings, report=rows.append)
    torch.testing.assert_close(trained.weights["weight"], torch.tensor([[3.0, -2.0]]), atol=0.02, rtol=0)
    torch.testing.assert_close(trained.weights["bias"], torch.tensor([1.0]), atol=0.02, rtol=0)
    assert [row["step"] for row in rows] == list(range(20, 401, 20))
    assert [row["step"] for row in rows if row["validation"] == row["validation"]] == [100, 200, 300, 400]
    assert trained.validation == min(row["validation"] for row in rows if row["validation"] == row["validation"])
    assert rows[-1]["progress"] == 1
    assert trained.steps == 400
    assert trained.facts["steps"] == "400"


def test_the_best_is_not_the_last(tmp_path: Path) -> None:
    problem, losses = Problem(line()), iter((3.0, 1.0, 2.0))
    seen: list[Tensor] = []

    def validation() -> float:
        seen.append(problem.module.weight.detach().clone())
        return next(losses)

    trained = train_head(problem.module, problem.loss, validation, SETTINGS, tmp_path, stamp=STAMP)
    assert (trained.best_step, trained.validation, trained.steps) == (50, 1.0, 60)
    assert torch.equal(trained.weights["weight"], seen[1])
    assert not torch.equal(trained.weights["weight"], seen[2])


def test_the_parts_of_a_loss_add_up(tmp_path: Path) -> None:
    """Following each part back on its own gives the gradient of the sum."""
    whole, parts = Problem(line()), Problem(line())

    def summed(generator: torch.Generator) -> Iterator[Tensor]:
        yield torch.stack(list(whole.loss(generator))).sum()

    one = train_head(whole.module, summed, whole.validation, SETTINGS, tmp_path / "one", stamp=STAMP)
    two = train(tmp_path / "two", problem=parts)
    torch.testing.assert_close(one.weights["weight"], two.weights["weight"])


@pytest.mark.usefixtures("saves_every_step")
def test_another_training_is_not_continued(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(InputError, match=r"seed = 4.*--no-resume"):
        train(tmp_path, LoopSettings(**{**vars(SETTINGS), "seed": 5}))
    with pytest.raises(InputError, match=r"head = line"):
        train(tmp_path, stamp={"head": "curve"})
    with pytest.raises(InputError, match=r"another model"):
        train(tmp_path, problem=Problem(nn.Linear(2, 2)))
    longer = Problem(line())
    train(tmp_path, LoopSettings(**{**vars(SETTINGS), "steps": 70}), longer)  # more of the same is fine
    assert longer.steps == 10
    over = Problem(line())
    assert train(tmp_path, problem=over, resume=False).steps == 60
    assert over.steps == 60


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"garbage"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(InputError, match="--no-resume"):
            train(tmp_path)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    module = line()

    def lost(generator: torch.Generator) -> Iterator[Tensor]:
        yield module(torch.ones(1, 2)).sum() * torch.nan

    before = module.weight.detach().clone()
    with pytest.raises(InputError, match="learning rate"):
        train_head(module, lost, lambda: 0.0, SETTINGS, tmp_path, stamp=STAMP)
    assert torch.equal(module.weight, before)


def test_the_clock_can_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=5.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    trained = train(tmp_path, LoopSettings(steps=10**6, minutes=2.0, learning_rate=0.05, validate_every=10**6))
    assert 5 <= trained.steps <= 30
    assert trained.best_step == trained.steps


def test_biases_do_not_decay() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    rest, biases = make_optimiser(module, LoopSettings(weight_decay=0.1)).param_groups
    assert (rest["weight_decay"], biases["weight_decay"]) == (0.1, 0.0)
    assert [p.ndim for p in rest["params"]] == [2, 2]
    assert [p.ndim for p in biases["params"]] == [1, 1]
    [everything] = make_optimiser(module, LoopSettings(weight_decay=0.1, decay_biases=True)).param_groups
    assert len(everything["params"]) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("learning_rate", -1e-4), ("clip", 0), ("minutes", -1), ("learning_rate", float("nan"))],
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        LoopSettings(**{name: value})
