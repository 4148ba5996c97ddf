"""``fit temperature``: calibrate the probabilities of a model, in its weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uncertsam.cli.fit.common import ConfigOption, DeviceOption
from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_uncertsam.checkpoints import ResolvedCheckpoint
    from napari_uncertsam.training.calibration import Score, Tally

FILE, TABLE = "calibrated.safetensors", "calibration.json"


def fit_temperature(
    out: Annotated[Path, typer.Option(help=f"Folder for the weights, {FILE}, and the figures, {TABLE}.")],
    weights: Annotated[
        str, typer.Option(help="The weights to calibrate: bundled, or a file of one's own.")
    ] = "bundled",
    config: ConfigOption = None,
    scenes: Annotated[int, typer.Option(min=1, help="Synthetic scenes that the temperature is fitted on.")] = 300,
    held_out: Annotated[int, typer.Option(min=1, help="Other scenes that calibration is measured on.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of scenes and prompts.")] = 1,
    region: Annotated[
        str, typer.Option(help="Pixels that decide: around the true object, or all of the image.")
    ] = "around",
    device: DeviceOption = "auto",
    install: Annotated[
        bool, typer.Option("--install", help="Put the result into this installation as its bundled model.")
    ] = False,
) -> None:
    """Calibrate a model: fit one temperature, and fold it into the weights, for all that reads mask logits.

    To be done before the memory of slices is trained (fit memory) and before parts are fitted (fit laplace, variance,
    fusion, adapter): those take the logits as they are.
    """
    from napari_uncertsam.checkpoints import file_metadata, load_state_dict, resolve
    from napari_uncertsam.cli.fit.curve import RunBar
    from napari_uncertsam.engine import Sam2Engine
    from napari_uncertsam.evaluation.metrics import reliability_curve, roi_of
    from napari_uncertsam.training import calibration
    from napari_uncertsam.training.export import stored, write_weights
    from napari_uncertsam.training.frozen import Frozen
    from napari_uncertsam.training.sources import SyntheticSource

    if region not in calibration.REGIONS:
        raise InputError(f"The region {region!r} is unknown; choose one of {', '.join(calibration.REGIONS)}.")
    checkpoint = _as_bundled(resolve(weights, config), install)
    metadata = file_metadata(checkpoint.path)
    _check(checkpoint, metadata, out)
    engine = Sam2Engine.from_checkpoint(checkpoint, device)
    state = load_state_dict(checkpoint.path)
    stored(state)  # what cannot be written is told before the work
    out.mkdir(parents=True, exist_ok=True)
    frozen, source = Frozen(engine), SyntheticSource()
    yardstick = calibration.Yardstick(roi_of, reliability_curve)
    typer.echo(f"Calibrating {checkpoint.path.name} on {scenes} {source.name}, {engine.device_label}, seed {seed}.")
    with RunBar("temperature") as bar:
        tallies = calibration.count_logits(frozen, source, yardstick, scenes=scenes, seed=seed, report=bar.report)
    temperature = tallies[region].temperature()
    typer.echo(f"Temperature: {temperature:.4f} ({_fitted(tallies)})")
    with RunBar("measuring") as bar:
        scores = calibration.held_out_scores(
            frozen, source, yardstick, temperature, scenes=held_out, seed=seed, report=bar.report
        )
    _say_scores(scores)
    record = calibration.record(
        metadata, temperature, scores, region=region, scenes=scenes, held_out=held_out, seed=seed
    )
    path = write_weights(calibration.fold(state, temperature), out / FILE, record)
    (out / TABLE).write_text(calibration.as_json(temperature, scores), "utf-8")
    typer.echo(f"Weights: {path}\nFigures: {out / TABLE}")
    if install:
        _install(path)


def _as_bundled(checkpoint: ResolvedCheckpoint, install: bool) -> ResolvedCheckpoint:
    """Weights of the bundled configuration, or that are to be installed, run as the bundled model does.

    A file of one's own would fall back to another mask token where the first is unstable, and be calibrated for that.
    """
    from napari_uncertsam.checkpoints import resolve

    own = Path(checkpoint.config)
    same = own.is_file() and own.read_bytes() == Path(resolve("bundled").config).read_bytes()
    return replace(checkpoint, name="bundled") if same or install else checkpoint


def _check(checkpoint: ResolvedCheckpoint, metadata: Mapping[str, str], out: Path) -> None:
    """Refuse what would spoil something."""
    if checkpoint.adapter is not None:
        raise InputError(
            f"{checkpoint.name} has an adapter; calibrate the model without it, then fit the adapter again."
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out the name of a folder.")
    if checkpoint.path.resolve() == (out / FILE).resolve():
        raise InputError(f"The weights {checkpoint.path} would be overwritten; give another folder to --out.")
    if metadata.get("memory") == "trained":
        raise InputError(
            f"The memory of {checkpoint.name} was trained on its logits as they are; calibrate the weights from before "
            "that, then train the memory (fit memory)."
        )


def _fitted(tallies: Mapping[str, Tally]) -> str:
    """What each region asks for: how far they disagree says how much the choice of the region decides."""
    said = []
    for region, tally in tallies.items():
        try:
            said.append(f"{region} {tally.temperature():.4f}")
        except InputError:
            said.append(f"{region} none")
    return ", ".join(said)


def _say_scores(scores: Mapping[str, Mapping[str, tuple[Score, Score]]]) -> None:
    """Calibration on held-out scenes, as a table."""
    typer.echo(f"{'On other scenes':<28}{'':<8}{'ECE':>15}{'ECE of a case':>17}{'NLL in nats':>17}")
    for form, regions in scores.items():
        for region, (before, after) in regions.items():
            columns = zip(before, after, strict=True)
            said = "  ".join(f"{old:.4f} > {new:.4f}" for old, new in columns)
            typer.echo(f"{form:<28}{region:<8}{said}")


def _install(path: Path) -> None:
    """Put calibrated weights where the bundled ones are, if they are weights of the bundled configuration.

    Raises
    ------
    CheckpointError
        If they are of another.
    """
    from napari_uncertsam.checkpoints import resolve
    from napari_uncertsam.engine import Sam2Engine

    bundled = resolve("bundled")
    target = bundled.path
    Sam2Engine.load(str(path), bundled.config, "cpu")
    partial = target.with_name(".bundled.part")
    shutil.copyfile(path, partial)
    partial.replace(target)
    typer.echo(f"Installed as the bundled model: {target}")
    typer.echo(
        "Parts that were fitted for the weights before (fit laplace, variance, fusion, adapter) are to be fitted again."
    )
