"""What a report says in words: what was evaluated and how, and the results in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.metrics import MEASURES
from napari_uncertsam.evaluation.report.figures import included
from napari_uncertsam.evaluation.report.formatting import count, decimals_for, with_interval
from napari_uncertsam.evaluation.results import Results

Summary = Mapping[str, Any]
#: So many methods are named in a sentence.
_NAMED = 3
#: Named with a term and a definition.
Facts = list[tuple[str, str]]


def facts(results: Results) -> Facts:
    """Dataset, model, device, versions and settings, everything that a reader needs to repeat the evaluation."""
    said, settings, record = (results.document[part] for part in ("dataset", "settings", "record"))
    size = ", ".join(
        (count(said["cases"], "object"), count(said["images"], "image"), count(said["groups"], "independent group"))
    )
    options = ", ".join(f"{name} {value}" for name, value in said["options"].items())
    # "test" is also what a dataset without parts says.
    part = "" if said["split"] in (None, "test") else f", {said['split']}"
    found: Facts = [("Dataset", f"{said['name']}{part}: {size}")]
    found.append(("Folder", f"{said['path']}{f' ({options})' if options else ''}"))
    found.append(("Model", f"{record['model']}, checkpoint {str(record['checkpoint_sha256'])[:12]}"))
    found.append(("Device", str(record["device"])))
    found.append(("Versions", ", ".join(f"{name} {value}" for name, value in record["versions"].items())))
    zoom = "a square crop around the prompt" if settings["zoom"] else "the whole image"
    found.append(("The model sees", zoom))
    found.append(("Seed", str(settings["seed"])))
    tolerance = f"{settings['tolerance']:g} mm (pixels where no spacing is known)"
    found.append(("Tolerance of NSD", tolerance))
    if settings["apart"]:
        found.append(("Set apart", f"{', '.join(settings['apart'])}: in no overall mean, curve or correlation"))
    return found


def prompt_titles(results: Results) -> dict[str, str]:
    """Names of prompts to what people call them; the name itself where this program does not know it."""
    from napari_uncertsam.evaluation.simulate import parse_prompt

    titles = {}
    for name in results.prompts:
        try:
            titles[name] = parse_prompt(name).title
        except InputError:
            titles[name] = name
    return titles


def method_titles(results: Results) -> dict[str, tuple[str, str]]:
    """Names of methods to what people call them, and to the question that they answer."""
    from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES
    from napari_uncertsam.refinement.methods import make_method, parse_method

    titles = {}
    for name in results.methods:
        try:
            base, measure = parse_method(name)
            method = make_method(base)
            if measure is None:
                titles[name] = (method.title, method.answers)
            else:
                text = UNCERTAINTY_MEASURES[measure]
                titles[name] = (f"{method.title}, {text.title.lower()}", text.answers)
        except InputError:
            titles[name] = (name, "")
    return titles


def colour_range(results: Results) -> tuple[str, str]:
    """What the pictures' uncertainty is, and its largest value, of the first method."""
    from napari_uncertsam.estimators.measures import UNCERTAINTY_MEASURES

    measure = results.measure_of(results.methods[0])
    text = UNCERTAINTY_MEASURES[measure]
    name = "uncertainty" if measure == "entropy" else text.title.lower()
    return name, f"ln 2 = {text.largest:.3f} nats" if text.unit == "nats" else f"{text.largest:g} {text.unit}".strip()


def intervals(results: Results) -> str:
    """How intervals were made, in a sentence."""
    level, groups = results.document["settings"]["level"], results.document["dataset"]["groups"]
    sentence = (
        f"Small numbers are {100 * level:g} % intervals by cluster bootstrap: the mean over groups (patients, volumes "
        "or images) drawn with replacement, since cases of one group are not independent"
    )
    if groups < 2:
        return sentence + ", and one group alone has no interval."
    return sentence + (
        f". Of only {groups} groups they are not to be trusted, and often too narrow." if groups < 10 else "."
    )


def in_short(results: Results) -> list[str]:
    """The main results, a sentence each."""
    sentences = []
    titles = prompt_titles(results)
    for prompt in results.prompts:
        entries = [e for e in results.document["summary"] if e["prompt"] == prompt and e["modality"] is None]
        entries = [e for e in entries if e["measures"]["dice"]["mean"] is not None]
        if entries:
            sentences.append(f"Mean Dice, {titles[prompt]}: {_ranked(results, entries, 'dice')}.")
        if entries and prompt == results.prompts[0]:
            ranked = _ranked(results, entries, "ause_roi")
            sentences.append(f"Mean AUSE around the object (0 is a perfect order of errors, 1 a random one): {ranked}.")
    first = results.prompts[0], results.methods[0]
    if rows := included(results, *first):
        low, high = (sum(test) for test in ((r["dice"] < 0.5 for r in rows), (r["dice"] >= 0.9 for r in rows)))
        sentences.append(
            f"Of {count(len(rows), 'object')}, {low:,} had a Dice below 0.5 and {high:,} one of 0.9 or more "
            f"({titles[first[0]]}, {method_titles(results)[first[1]][0]})."
        )
    return sentences


def _ranked(results: Results, entries: Sequence[Summary], name: str) -> str:
    """The methods from the best mean of a measure to the worst."""
    better = MEASURES[name].better
    ordered = sorted(entries, key=lambda e: e["measures"][name]["mean"], reverse=better == "higher")
    decimals = decimals_for(e["measures"][name]["mean"] for e in ordered)
    titles = method_titles(results)
    words = [
        f"{titles[e['method']][0]} {with_interval(e['measures'][name]['mean'], e['measures'][name], decimals)}"
        for e in ordered
    ]
    if len(words) > _NAMED + 1:
        words[_NAMED:] = [f"{len(words) - _NAMED} more down to {words[-1]}"]
    return ", ".join(words)


def failures(results: Results) -> list[tuple[str, str]]:
    """Images that could not be read, with the reason."""
    return [(entry["image"], entry["reason"]) for entry in results.document["failed"]]
