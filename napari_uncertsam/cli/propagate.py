"""``propagate``: prompts on one slice of a volume in; the object on all its slices out, or a saved session again."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uncertsam.cli.bars import Bar
from napari_uncertsam.cli.choosing import check_folder, choose_slice, clipped_to, open_image, parse_points, prompts_of
from napari_uncertsam.errors import InputError

if TYPE_CHECKING:
    from napari_uncertsam.pipeline import Pipeline
    from napari_uncertsam.prompts import Prompts
    from napari_uncertsam.session import Session
    from napari_uncertsam.volume import Volume

#: What a session says itself, by the name of the parameter.
_SAID = {"slice_index": "slice", "method": "method", "plane": "plane", "window": "window", "seed": "seed"} | {
    name: name for name in ("box", "point", "negative")
}


def propagate(
    context: typer.Context,
    volume_path: Annotated[
        Path, typer.Argument(metavar="VOLUME", help="NIfTI, or a stack as TIFF; a DICOM file or folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; made when missing.")],
    slice_index: Annotated[int | None, typer.Option("--slice", help="Slice that the prompts are on, from 0.")] = None,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="Y0 X0 Y1 X1", help="Box by two corners, pixel indices of the slice."),
    ] = None,
    point: Annotated[list[str] | None, typer.Option(metavar="Y X", help="A pixel inside; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(metavar="Y X", help="A pixel outside; repeatable.")] = None,
    session_file: Annotated[
        Path | None,
        typer.Option("--session", metavar="FILE", help="A saved session, to be computed again instead of prompts."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="With --session: also propagate what is not up to date in its plane.")
    ] = False,
    plane: Annotated[int, typer.Option(help="Array axis (Z, Y, X) that the slices are perpendicular to.")] = 0,
    series: Annotated[
        str | None, typer.Option(metavar="N", help="DICOM series, where there are several: number or UID.")
    ] = None,
    volume_index: Annotated[
        int | None, typer.Option("--volume", min=0, metavar="K", help="Volume of a NIfTI that holds several, from 0.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A name of `models list`, or a checkpoint's path; bundled, or the session's without it."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of an own checkpoint.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Where the uncertainty comes from; laplace, or prompt where the model has no posterior yet."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help='Intensities: a CT preset such as "lung", or LOW,HIGH; soft tissue for CT without it.'),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Allow --out to hold files already.")] = False,
) -> None:
    """Segment one object on a slice and follow it through the volume; write masks, maps, the session, summary.json."""
    if session_file is not None:
        _refuse_both(context)
        check_folder(out, overwrite)
        session = _loaded(_open(volume_path, series, volume_index), session_file)
        pipeline = _pipeline(model or session.settings.model, config, device)
        _compare(session, pipeline)
        _replay(session, pipeline, update)
    else:
        prompts = prompts_of(box, parse_points(point, "--point"), parse_points(negative, "--negative"))
        check_folder(out, overwrite)
        session = _prepared(volume_path, series, volume_index, plane, slice_index, window, method)
        prompts = clipped_to(session.volume.plane_shape(plane), prompts)
        pipeline = _pipeline(model or "bundled", config, device)
        _choose(session, pipeline, model or "bundled", method, seed)
        _segment(session, pipeline, prompts)
        _fill(session, pipeline)
    paths = session.save(out, overwrite=overwrite)
    _tell(session, paths)


# --- what is to be done ------------------------------------------------------------------------------------------


def _refuse_both(context: typer.Context) -> None:
    sources = {said: context.get_parameter_source(name) for name, said in _SAID.items()}
    given = [said for said, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        options = ", ".join(f"--{name}" for name in given)
        raise InputError(f"A session says itself what {options} would say; leave that out, or leave out --session.")


def _open(path: Path, series: str | None, volume_index: int | None) -> Volume:
    """The volume; refused where no file could be written for it."""
    from napari_uncertsam import io
    from napari_uncertsam.saving import saving_note

    volume = open_image(path, series, volume_index)
    if volume.ndim != 3:
        raise InputError(f"{volume.name or path.name} is a 2D image without slices to propagate to; use segment.")
    if not isinstance(volume.header, io.DicomSeries) or importlib.util.find_spec("highdicom") is None:
        io.check_nifti_geometry(volume)
    if note := saving_note(volume):
        typer.echo(f"Note: {note}", err=True)
    return volume


def _prepared(
    path: Path,
    series: str | None,
    volume_index: int | None,
    plane: int,
    slice_index: int | None,
    window: str | None,
    method: str | None,
) -> Session:
    """A new session on the slice that is asked for; what is wrong is told before anything is computed."""
    from napari_uncertsam.cli.segment import parse_measure_of, parse_window
    from napari_uncertsam.session import Session

    parse_measure_of(method or "laplace", None)
    chosen = parse_window(window)
    volume = _open(path, series, volume_index)
    index = choose_slice(volume, plane, slice_index)
    session = Session(volume, window=chosen)
    session.go_to(plane, index)
    return session


def _loaded(volume: Volume, path: Path) -> Session:
    from napari_uncertsam.session import Session

    session = Session(volume)
    session.message.connect(_note)
    session.load(path)
    if not session.entries:
        raise InputError(f"There are no prompts in {path}; segment something, and save the session again.")
    return session


def _note(text: str) -> None:
    typer.echo(f"Note: {text}", err=True)


# --- with the model ----------------------------------------------------------------------------------------------


def _pipeline(model: str, config: str | None, device: str) -> Pipeline:
    from napari_uncertsam.cli.segment import load_engine
    from napari_uncertsam.engine import DiskCache
    from napari_uncertsam.pipeline import Pipeline

    return Pipeline(load_engine(model, config, device), disk=DiskCache.default())


def _choose(session: Session, pipeline: Pipeline, model: str, method: str | None, seed: int) -> None:
    """Settings of a new session; all its maps are of the entropy, which propagated slices show, too."""
    from napari_uncertsam.cli.segment import default_method

    if Path(model).is_file():  # the session may be opened from elsewhere
        model = str(Path(model).resolve())
    method = method or default_method(pipeline.engine)
    session.set_settings(model=model, method=method, measure="entropy", seed=seed)


def _compare(session: Session, pipeline: Pipeline) -> None:
    saved = session.model_record.get("checkpoint_sha256")
    if saved and saved != pipeline.engine.sha256:
        _note(f"The session was made with other weights than those of {pipeline.engine.name}; masks will differ.")


def _segment(session: Session, pipeline: Pipeline, prompts: Prompts) -> None:
    session.set_prompts(prompts)
    request = session.request
    assert request is not None  # there are prompts
    session.deliver(pipeline.predict(session.volume, request))
    if not session.entry.area_px:
        raise InputError(
            f"Nothing was found on slice {session.slice_index}; move the box, add a --point inside or set --window."
        )


def _fill(session: Session, pipeline: Pipeline) -> None:
    """Propagate what is not up to date of the current object."""
    from napari_uncertsam.propagating import propagate

    request = session.propagation_request()
    total = sum(span.stop - span.start for span in request.spans)
    with Bar(f"Object {request.object_id}") as bar:

        def tell(_text: str, fraction: float) -> None:
            bar.report(fraction * total, total)

        for result in propagate(pipeline, session.volume, request, progress=tell):
            session.deliver_propagated(request, [result])
    session.finish_propagation(request)


def _replay(session: Session, pipeline: Pipeline, update: bool) -> None:
    from napari_uncertsam.replaying import replay

    with Bar("Computing again") as bar:
        replay(session, pipeline, progress=lambda _stage, fraction: bar.report(100 * fraction, 100))
    present = session.object_id
    for object_id in session.objects if update else ():
        session.select_object(object_id)
        try:
            _fill(session, pipeline)
        except InputError as error:  # nothing to start from, or nothing to do
            _note(f"Object {object_id}: {error}")
    session.select_object(present)


# --- what is said ------------------------------------------------------------------------------------------------


def _tell(session: Session, paths: list[Path]) -> None:
    """A sentence about each object, and the files."""
    present = session.object_id
    several = len(session.objects) > 1
    for object_id in session.objects:
        session.select_object(object_id)
        typer.echo(f"Object {object_id}: {_sentence(session)}" if several else _sentence(session))
    session.select_object(present)
    for path in paths:
        typer.echo(str(path))


def _sentence(session: Session) -> str:
    """How large the current object is, and where.

    In voxels where nobody said how large these are.
    """
    from napari_uncertsam.volumetry import voxel_mm3

    slices, estimate = [f.slice_index for f in session.slice_facts()], session.volume_estimate()
    if estimate is None:
        return f"no mask in plane {session.plane}."
    count = f"{len(slices)} slices ({slices[0]} to {slices[-1]})" if len(slices) > 1 else f"1 slice ({slices[0]})"
    ml, low, high = estimate.ml, estimate.low_ml, estimate.high_ml
    if session.volume.affine is None:
        voxel = voxel_mm3(session.volume) / 1000
        return f"{count}, {ml / voxel:.0f} voxels (90% interval {low / voxel:.0f} to {high / voxel:.0f})."
    digits = 1 if ml >= 10 else 3
    return f"{count}, {ml:.{digits}f} mL (90% interval {low:.{digits}f} to {high:.{digits}f})."
