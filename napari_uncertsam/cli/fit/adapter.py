"""``fit adapter``: MedSAM-U's MPA adapter for any model."""

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
    from napari_uncertsam.adapters import Activation, Init
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.training.adapter import Loss
    from napari_uncertsam.training.sources import TrainingData


def fit_adapter(
    model: ModelOption = "bundled",
    config: ConfigOption = None,
    data: DataOption = None,
    split: SplitOption = "train",
    whole: WholeOption = False,
    prompts: Annotated[
        str,
        typer.Option(
            help="mixture: a box (jittered outwards, or at overlap 0.75 or 0.5), 3, 5 or 10 points inside, or both; "
            "boxes or points alone; paper: points and a jittered box."
        ),
    ] = "mixture",
    init: Annotated[str, typer.Option(help="zero starts from the model as it is; paper from random weights.")] = "zero",
    activation: Annotated[str, typer.Option(help="relu, as MedSAM-U says, or gelu, as Medical-SAM-Adapter.")] = "relu",
    loss: Annotated[
        str, typer.Option(help="standard: focal and Dice; as-printed: the paper's equation 15 to the letter.")
    ] = "standard",
    steps: StepsOption = 17_500,
    minutes: MinutesOption = 0.0,
    learning_rate: RateOption = 1e-4,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    install: InstallOption = False,
    resume: ResumeOption = True,
) -> None:
    """Train the adapter of a model, which is then used as MODEL+adapter; the model itself stays as it is."""
    from napari_uncertsam.adapters import AdapterSettings
    from napari_uncertsam.training import adapter as training

    training.check_options(prompts, loss)
    inserted = AdapterSettings(cast("Init", init), cast("Activation", activation))
    settings = training.paper_settings(steps=steps, minutes=minutes, learning_rate=learning_rate, seed=seed)

    def fit(
        engine: Sam2Engine, images: TrainingData, folder: Path, report: Callable[[Mapping[str, float]], None]
    ) -> Path:
        return training.fit_adapter(
            engine,
            images,
            settings,
            folder,
            adapter=inserted,
            prompts=prompts,
            loss=cast("Loss", loss),
            report=report,
            resume=resume,
        )

    path = fit_part(PartOptions("adapter", model, config, device, data, split, whole, seed, out, install, resume), fit)
    adapted = f"--model {model}+{'adapter' if install else path}" + (f" --config {config}" if config else "")
    typer.echo(f"To use the model with it: {adapted}")
    typer.echo(f"To fit its Laplace posterior: napari-uncertsam fit laplace {adapted} --install")
