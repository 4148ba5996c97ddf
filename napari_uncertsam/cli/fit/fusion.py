"""``fit fusion``: dense embedding fusion for any model, and its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

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
    from napari_uncertsam.refinement.fusion_head import Start
    from napari_uncertsam.training.sources import TrainingData


def fit_fusion(
    model: ModelOption = "bundled",
    config: ConfigOption = None,
    control: Annotated[
        str,
        typer.Option(
            help="Train a control instead, with a map of ones for the uncertainty: laplace-ones, sam-ones, token0-ones."
        ),
    ] = "",
    data: DataOption = None,
    split: SplitOption = "train",
    whole: WholeOption = False,
    steps: StepsOption = 17_500,
    minutes: MinutesOption = 0.0,
    learning_rate: RateOption = 1e-4,
    weight_decay: Annotated[
        float, typer.Option(min=0, help="The paper's; its authors' code has 0.001 for the controls.")
    ] = 0.01,
    start: Annotated[
        str, typer.Option(help="identity lets the mask through at first; random is the paper's.")
    ] = "identity",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    install: InstallOption = False,
    resume: ResumeOption = True,
) -> None:
    """Train the dense fusion of a model, which needs its Laplace posterior, or a control of it."""
    from napari_uncertsam.refinement.fusion_head import check_start
    from napari_uncertsam.training import fusion as training
    from napari_uncertsam.training.loop import LoopSettings

    kind = training.kind_of(control)
    check_start(start)
    settings = LoopSettings(steps, learning_rate, weight_decay, seed=seed, minutes=minutes)

    def fit(
        engine: Sam2Engine, images: TrainingData, folder: Path, report: Callable[[Mapping[str, float]], None]
    ) -> Path:
        return training.fit_fusion(
            engine,
            images,
            settings,
            folder,
            control=control,
            start=cast("Start", start),
            report=report,
            resume=resume,
        )

    fit_part(PartOptions(kind, model, config, device, data, split, whole, seed, out, install, resume), fit)
