"""``fit``: train the model that comes with the package, and the parts that uncertainty methods need of any model.

One module per command. A command that fits a part of a model is a table of its options around
:func:`napari_uncertsam.cli.fit.common.fit_part`.
"""

import typer

from napari_uncertsam.cli.fit.adapter import fit_adapter
from napari_uncertsam.cli.fit.bundled import fit_bundled
from napari_uncertsam.cli.fit.fusion import fit_fusion
from napari_uncertsam.cli.fit.laplace import fit_laplace
from napari_uncertsam.cli.fit.memory import fit_memory
from napari_uncertsam.cli.fit.temperature import fit_temperature
from napari_uncertsam.cli.fit.variance import fit_variance

__all__ = ["fit_app"]

fit_app = typer.Typer(help="Train what the package can train.", no_args_is_help=True)


@fit_app.callback()
def _group() -> None:
    """Train what the package can train."""


fit_app.command("bundled")(fit_bundled)
fit_app.command("memory")(fit_memory)
fit_app.command("temperature")(fit_temperature)
fit_app.command("laplace")(fit_laplace)
fit_app.command("variance")(fit_variance)
fit_app.command("fusion")(fit_fusion)
fit_app.command("adapter")(fit_adapter)
