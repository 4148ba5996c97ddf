"""``segment``: one image, prompts in; mask, probability, uncertainty and ``summary.json`` out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_uncertsam.cli.choosing import check_folder, choose_slice, clipped_to, parse_points, prompts_of, read_image
from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.engine import Engine
    from napari_uncertsam.estimators.measures import Measure
    from napari_uncertsam.intensity import Window
    from napari_uncertsam.pipeline import Pipeline
    from napari_uncertsam.prediction import Prediction, RefinedPrediction
    from napari_uncertsam.refinement.settings import UgpaSettings
    from napari_uncertsam.volume import Volume


def segment(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, BMP, TIFF or NIfTI; a DICOM file or folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; made when missing.")],
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="Y0 X0 Y1 X1", help="Box by two corners, pixel indices of the slice."),
    ] = None,
    point: Annotated[list[str] | None, typer.Option(metavar="Y X", help="A pixel inside; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(metavar="Y X", help="A pixel outside; repeatable.")] = None,
    slice_index: Annotated[int | None, typer.Option("--slice", help="Slice of a volume, from 0.")] = None,
    plane: Annotated[int, typer.Option(help="Array axis (Z, Y, X) that the slice is perpendicular to.")] = 0,
    series: Annotated[
        str | None, typer.Option(metavar="N", help="DICOM series, where there are several: number or UID.")
    ] = None,
    volume_index: Annotated[
        int | None, typer.Option("--volume", min=0, metavar="K", help="Volume of a NIfTI that holds several, from 0.")
    ] = None,
    model: Annotated[str, typer.Option(help="A name of `models list`, or a checkpoint's path.")] = "bundled",
    config: Annotated[str | None, typer.Option(help="Configuration of an own checkpoint.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Where the uncertainty comes from: entropy, prompt, tta ...; a wrong name lists all. Without it "
            "laplace, or prompt where the model has no posterior yet."
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="What its map shows: entropy, mutual-information or std; the method's own without it."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help='Intensities: a CT preset such as "lung", or LOW,HIGH; soft tissue for CT without it.'),
    ] = None,
    refine: Annotated[int, typer.Option(min=0, metavar="ROUNDS", help="Automatic refinement rounds.")] = 0,
    ugpa: Annotated[
        str,
        typer.Option(help="How those rounds go: recommended, or paper (MedSAM-U to the letter)."),
    ] = "recommended",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Allow --out to hold files already.")] = False,
) -> None:
    """Segment one object; write mask, probability and uncertainty in the image's geometry, and summary.json."""
    prompts = prompts_of(box, parse_points(point, "--point"), parse_points(negative, "--negative"))
    check_folder(out, overwrite)

    # A wrong name is told before the minutes of loading and computing.
    parse_measure_of(method or "laplace", measure)
    choices = parse_ugpa(ugpa)
    chosen = parse_window(window)
    volume = read_image(image, series, volume_index)
    index = choose_slice(volume, plane, slice_index)
    prompts = clipped_to(volume.plane_shape(plane), prompts)

    from napari_uncertsam.engine import DiskCache
    from napari_uncertsam.intensity import Window
    from napari_uncertsam.pipeline import Pipeline
    from napari_uncertsam.prediction import Request, Settings

    pipeline = Pipeline(load_engine(model, config, device), disk=DiskCache.default())
    method = method or default_method(pipeline.engine)
    shown = parse_measure_of(method, measure)
    settings = Settings(model=model, method=method, measure=shown, seed=seed, ugpa=choices, rounds=refine)
    request = Request(
        image_id=str(image),
        plane=plane,
        slice_index=index,
        window=chosen or Window.for_volume(volume),
        view=None,
        object_id=1,
        prompts=prompts,
        settings=settings,
    )
    prediction, refined = _run(pipeline, volume, request, refine)
    paths = write_results(out, volume, prediction, refined, overwrite=overwrite)
    typer.echo(_sentence(prediction, refined))
    for path in paths:
        typer.echo(str(path))


def default_method(engine: Engine) -> str:
    """Laplace; prompt perturbation, and a sentence about it, where the model has no posterior yet."""
    from napari_uncertsam.checkpoints import find_part, missing_part

    if find_part("laplace", engine.sha256) is not None:
        return "laplace"
    typer.echo(f"{missing_part('laplace', engine.name)}. Until then prompt perturbation is used.", err=True)
    return "prompt"


def load_engine(model: str, config: str | None, device: str) -> Engine:
    """The model that runs; the one place where this command touches real weights."""
    from napari_uncertsam.engine import Sam2Engine

    return Sam2Engine.load(model, config, device)


def parse_measure_of(method: str, measure: str | None) -> Measure | None:
    """A measure that a method has; None for the method's own.

    Raises
    ------
    InputError
        If there is no such method or measure, or the method does not have it.

    Examples
    --------
    >>> parse_measure_of("prompt", "mi")
    'mutual-information'
    """
    from napari_uncertsam.estimators.measures import parse_measure
    from napari_uncertsam.refinement.methods import make_method

    known = make_method(method).measures
    if measure is None:
        return None
    parsed = parse_measure(measure)
    if parsed not in known:
        raise InputError(f"The method {method} has no {parsed}; give --measure {' or '.join(known)}, or none.")
    return parsed


def parse_ugpa(name: str) -> UgpaSettings:
    """The preset of automatic refinement of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    from napari_uncertsam.refinement.settings import UgpaSettings

    return UgpaSettings.preset(name)


def parse_window(text: str | None) -> Window | None:
    """A preset's name or ``LOW,HIGH``; None for the automatic window.

    Examples
    --------
    >>> parse_window("lung")
    Window(low=-1350.0, high=150.0, name='lung')
    >>> parse_window("-100,300")
    Window(low=-100.0, high=300.0, name='custom')
    """
    from napari_uncertsam.intensity import WINDOWS, Window

    if text is None:
        return None
    preset = text.strip().lower().replace("-", " ").replace("_", " ")
    if preset in WINDOWS:
        return WINDOWS[preset]
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(
            f"There is no window {text!r}; choose {', '.join(WINDOWS)}, or two numbers such as -100,300."
        ) from error
    return Window(low, high, "custom")


def write_results(
    out: Path, volume: Volume, prediction: Prediction, refined: RefinedPrediction | None, *, overwrite: bool
) -> list[Path]:
    """Write ``mask``, ``probability``, ``uncertainty`` and ``summary.json`` into a folder, and return their paths."""
    from napari_uncertsam import io
    from napari_uncertsam.session_file import write_json

    out.mkdir(parents=True, exist_ok=True)
    request, maps = prediction.request, prediction.maps

    def placed(name: str) -> Any:
        values = getattr(maps, name)  # made anew from the view: of a big image only one is held at a time
        return values if volume.ndim == 2 else io.embed_slice(request.plane, request.slice_index, values, volume)

    paths = [io.write_mask(out / f"mask{io.output_suffix(volume)}", placed("mask"), volume, overwrite=overwrite)]
    for name in ("probability", "uncertainty"):
        path = out / f"{name}{io.output_suffix(volume, 'map')}"
        paths.append(io.write_map(path, placed(name), volume, overwrite=overwrite))
    document = summary(volume, prediction, refined) | {"files": [path.name for path in paths]}
    return [*paths, write_json(out / "summary.json", document, overwrite=overwrite)]


def summary(volume: Volume, prediction: Prediction, refined: RefinedPrediction | None) -> dict[str, Any]:
    """What ``summary.json`` says: :func:`napari_uncertsam.summary.summarise` and where the image lies."""
    from napari_uncertsam.summary import summarise

    document = summarise(prediction, refined, volume)
    document["image"] = str(volume.source or volume.name)
    document["predicted_iou"] = prediction.predicted_iou
    document["prompts"].pop("mask", None)  # thousands of logits, which the maps show better
    return document


def _run(pipeline: Pipeline, volume: Volume, request: Any, rounds: int) -> tuple[Prediction, RefinedPrediction | None]:
    prediction = pipeline.predict(volume, request)
    if not rounds:
        return prediction, None
    refined = pipeline.refine(volume, prediction)
    return refined.prediction, refined


def _sentence(prediction: Prediction, refined: RefinedPrediction | None) -> str:
    from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES

    measure = UNCERTAINTY_MEASURES[prediction.record["measure"]]
    low, high = prediction.area_interval
    mean, unit = f"mean {measure.title.lower()}", f" {measure.unit}" if measure.unit else ""
    text = f"{prediction.area_px:.0f} px (90% interval {low:.0f} to {high:.0f}), {mean} "
    quality, after = prediction.quality, f"{prediction.mean_uncertainty:.3f}{unit}"
    if quality is not None:
        after += f", Dice likely {quality.dice:.2f} (90% interval {quality.low:.2f} to {quality.high:.2f})"
    if refined is None:
        return f"{text}{after}."
    kept = sum(r.accepted for r in refined.rounds)
    before = f"{refined.before.mean_uncertainty:.3f} -> " if kept else ""
    told = [f"Round {number}: {r.reason}" for number, r in enumerate(refined.rounds, 1)]
    return "\n".join([f"{text}{before}{after}.", *told])
