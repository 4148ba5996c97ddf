"""``fit laplace``: the posterior of a model's last layer."""

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
    ModelOption,
    OutOption,
    PartOptions,
    ResumeOption,
    SeedOption,
    SplitOption,
    WholeOption,
    fit_part,
)

if TYPE_CHECKING:
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.estimators.laplace.curvature import Curvature
    from napari_uncertsam.training.laplace_settings import Choice
    from napari_uncertsam.training.sources import TrainingData


def fit_laplace(
    model: ModelOption = "bundled",
    config: ConfigOption = None,
    data: DataOption = None,
    split: SplitOption = "train",
    whole: WholeOption = False,
    images: Annotated[int, typer.Option(help="How many images to look at.")] = 400,
    prompts: Annotated[int, typer.Option(help="Prompts on each image.")] = 4,
    structure: Annotated[
        str,
        typer.Option(help="diagonal, kfac, full, hierarchical; auto keeps the best of all but full by held-out NLL."),
    ] = "auto",
    curvature: Annotated[
        str, typer.Option(help="bernoulli, every pixel a coin; softmax, as UncertSAM's code behaves.")
    ] = "bernoulli",
    prior: Annotated[float | None, typer.Option(help="Prior precision; chosen by held-out NLL without.")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="By how much an image counts less; chosen by held-out NLL without."),
    ] = None,
    uncertsam: Annotated[
        bool, typer.Option("--uncertsam", help="As UncertSAM: diagonal, softmax, prior precision and temperature 1.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    install: InstallOption = False,
    resume: ResumeOption = True,
) -> None:
    """Fit the Laplace posterior of a model, in closed form: one forward pass for each image, no training."""
    from napari_uncertsam.training import laplace as training
    from napari_uncertsam.training.laplace_data import CHECKPOINT_PARTS

    if uncertsam:
        settings = training.LaplaceSettings.uncertsam(images=images, prompts=prompts, seed=seed)
    else:
        settings = training.LaplaceSettings(
            cast("Choice", structure),
            cast("Curvature", curvature),
            prior,
            temperature,
            images=images,
            prompts=prompts,
            seed=seed,
        )

    def fit(
        engine: Sam2Engine, source: TrainingData, folder: Path, report: Callable[[Mapping[str, float]], None]
    ) -> Path:
        if not resume:
            (folder / training.COLLECTED).unlink(missing_ok=True)
        part = folder / "laplace.safetensors"
        return training.fit_laplace(engine, part, source=source.training, settings=settings, work=folder, report=report)

    options = PartOptions("laplace", model, config, device, data, split, whole, seed, out, install, resume)
    fit_part(options, fit, CHECKPOINT_PARTS)
