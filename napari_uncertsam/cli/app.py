"""The commands put together, and every failure a user can cause turned into a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_uncertsam.cli.choosing import PointsCommand
from napari_uncertsam.cli.demo import demo
from napari_uncertsam.cli.evaluate import evaluate
from napari_uncertsam.cli.fit import fit_app
from napari_uncertsam.cli.models import models_app
from napari_uncertsam.cli.prepare import prepare
from napari_uncertsam.cli.propagate import propagate
from napari_uncertsam.cli.reproduce import reproduce
from napari_uncertsam.cli.segment import segment
from napari_uncertsam.errors import UncertSamError

BAD_INPUT, INTERRUPTED = 2, 130


class _Sentences(TyperGroup):
    """A group whose commands fail with one sentence on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see the class."""
        try:
            return super().invoke(ctx)
        except UncertSamError as error:
            sentence, code = str(error), BAD_INPUT
        except KeyboardInterrupt:
            sentence, code = "Interrupted; files that were finished are kept.", INTERRUPTED
        except MemoryError:
            sentence, code = "There was not enough memory; close other programs, or crop the image first.", BAD_INPUT
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output went away: typer ends quietly
                raise
            where = f" ({os.fspath(error.filename)})" if isinstance(error.filename, str | os.PathLike) else ""
            sentence, code = f"The system refused to read or write{where}: {error.strerror or error}.", BAD_INPUT
        typer.echo(f"Error: {sentence}", err=True)
        raise typer.Exit(code)


app = typer.Typer(
    name="napari-uncertsam",
    help="Segment with SAM 2, see where the model is unsure, and refine where an answer helps most.",
    cls=_Sentences,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo)
app.command("segment", cls=PointsCommand)(segment)
app.command("propagate", cls=PointsCommand)(propagate)
app.command("evaluate")(evaluate)
app.command("prepare")(prepare)
app.command("reproduce")(reproduce)
app.add_typer(models_app, name="models")
app.add_typer(fit_app, name="fit")


def _print_version(wanted: bool) -> None:
    if wanted:
        from napari_uncertsam import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Segment with SAM 2, see where the model is unsure, and refine where an answer helps most."""


def main() -> None:
    """Run the command line of this process."""
    try:
        app()
    except KeyboardInterrupt:  # before a command had begun
        typer.echo("Error: Interrupted.", err=True)
        sys.exit(INTERRUPTED)
