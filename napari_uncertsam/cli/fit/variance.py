"""``fit variance``: UncertSAM's variance network for any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uncertsam.cli.fit.common import (
    ConfigOption,
    DataOption,
    DeviceOption,
    InstallOption,
    MinutesOption,
    ModelOption,
    OutOption,
    PartOptions,
    RateOption,
    ResumeOption,
    SeedOption,
    SplitOption,
    StepsOption,
    WholeOption,
    fit_part,
)

if TYPE_CHECKING:
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.training.sources import TrainingData


def fit_variance(
    model: ModelOption = "bundled",
    config: ConfigOption = None,
    data: DataOption = None,
    split: SplitOption = "train",
    whole: WholeOption = False,
    steps: StepsOption = 17_500,
    minutes: MinutesOption = 0.0,
    learning_rate: RateOption = 1e-4,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    install: InstallOption = False,
    resume: ResumeOption = True,
) -> None:
    """Train the variance head of a model; writes variance.safetensors, curve.csv and curve.png."""
    from napari_uncertsam.training.variance import fit_variance as train
    from napari_uncertsam.training.variance import paper_settings

    settings = paper_settings(steps=steps, minutes=minutes, learning_rate=learning_rate, seed=seed)

    def fit(
        engine: Sam2Engine, images: TrainingData, folder: Path, report: Callable[[Mapping[str, float]], None]
    ) -> Path:
        return train(engine, images, settings, folder, report=report, resume=resume)

    fit_part(PartOptions("variance", model, config, device, data, split, whole, seed, out, install, resume), fit)
