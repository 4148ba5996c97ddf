"""A report that people read: ``report.html``, one file that holds everything and needs nothing.

`tables`, `figures`, `worst` (with `pictures`) and `facts` turn results into what the page shows; ``page.html`` says
where it stands. The page loads nothing, and has no script but its own few lines that sort tables.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.results import Results
from napari_uncertsam.io import atomic

__all__ = ["write_report"]


def write_report(results: Results, path: Path, *, worst: int = 12) -> Path:
    """Write the report of an evaluation.

    The same results give the same file, byte for byte.

    Parameters
    ----------
    results : Results
    path : Path
        Of the HTML file; an older one is replaced.
    worst : int
        How many cases are shown as pictures in each gallery; none for 0.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If what draws the figures is not installed, `worst` is negative, or the file cannot be written.
    """
    if any(find_spec(name) is None for name in ("matplotlib", "jinja2")):
        raise InputError('The report needs matplotlib and jinja2; run pip install "napari-uncertsam[report]".')
    if worst < 0:
        raise InputError(f"A report cannot show {worst} cases; give 0 or more.")
    with atomic(path, overwrite=True) as temporary:
        # Names of files may hold bytes that are no text.
        temporary.write_bytes(_render(_content(results, worst)).encode("utf-8", errors="replace"))
    return Path(path)


def _content(results: Results, worst: int) -> dict[str, Any]:
    """What the page shows, by the names that the template uses."""
    from napari_uncertsam.evaluation.report import annotators, differences, facts, figures, pictures, tables
    from napari_uncertsam.evaluation.report.worst import galleries

    content = {
        "name": results.document["dataset"]["name"],
        "facts": facts.facts(results),
        "prompts": facts.prompt_titles(results),
        "methods": facts.method_titles(results),
        "intervals": facts.intervals(results),
        "failures": facts.failures(results),
        "in_short": facts.in_short(results),
        "glossary": tables.glossary(tables.uncertainty_unit(results)),
        "reference": results.comparisons[0]["reference"] if results.comparisons else "",
        "level": f"{100 * results.document['settings']['level']:g}",
        "any": bool(results.rows),
    }
    if not results.rows:
        return content
    return content | {
        "masks": tables.measures_table(results, "Mask against truth, mean over cases", tables.MASKS),
        "errors_roi": tables.measures_table(results, "Around the object, mean over cases", tables.ERRORS_ROI),
        "errors": tables.measures_table(results, "Over the whole image, mean over cases", tables.ERRORS),
        "probabilities": tables.measures_table(
            results, "Probability against truth, mean over cases", tables.PROBABILITIES
        ),
        "differences": differences.differences_table(results),
        "agreement": tables.agreement_table(results),
        "modalities": tables.modality_tables(results),
        "dice_figure": figures.draw_dice(results),
        "risk_figure": figures.draw_risk(results),
        "agreement_figure": figures.draw_agreement(results),
        "reliability_figure": figures.draw_reliability(results),
        "annotators": annotators.annotators(results),
        "galleries": galleries(results, worst) if worst else [],
        "first": (results.prompts[0], results.methods[0]),
        "colour_bar": pictures.colour_bar(),
        "colour_range": facts.colour_range(results),
        "colours": {name: f"rgb{getattr(pictures, name)}" for name in ("TRUTH", "PREDICTION")},
    }


def _render(content: dict[str, Any]) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    here = files(__name__)
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    # The browser runs this script and no other, whatever else might have got into the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FunctionLoader(lambda name: here.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(**content, script=script, script_hash=f"sha256-{digest}")
