"""A frozen SAM as training sees it: tensors in the model's frame in, everything that heads build on out, in float32."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_uncertsam.engine import image_features, memory_errors, normalise
from napari_uncertsam.training.loop import LoopSettings, Report, Trained, train_head
from napari_uncertsam.training.steps import choose_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_uncertsam.engine import Decoded, DenseTransform, Sam2Engine
    from napari_uncertsam.training.schedule import PromptBatch
    from napari_uncertsam.training.sources import TrainingData
    from napari_uncertsam.training.synthetic import Scene

#: Images that a validation loss is the mean of.
VALIDATION_IMAGES = 16


@dataclass(frozen=True, eq=False)
class Frozen:
    """The model of an engine, with fixed weights.

    Parameters
    ----------
    engine : Sam2Engine
        Its token choice holds here too: what is trained sees the tokens that it will be used with.
    """

    engine: Sam2Engine

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.engine.device

    @property
    def resolution(self) -> int:
        """Side of the square input in pixels."""
        return self.engine.resolution

    @torch.no_grad()
    def embed(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of a ``(3, s, s)`` image in [0, 1], highest resolution first; without gradient."""
        with memory_errors(f"embed the image with {self.engine.name}"):
            return tuple(image_features(self.engine.model, normalise(image[None].to(self.device).float())))

    def decode(
        self,
        features: tuple[Tensor, ...],
        prompts: PromptBatch,
        masks: Tensor | None = None,
        *,
        dense: DenseTransform | None = None,
    ) -> Decoded:
        """Masks for n prompts, as :meth:`Sam2Engine.decode_batch`.

        Gradients reach `masks` and what `dense` is made of; call it under ``torch.no_grad()`` where nothing needs one.
        """
        with memory_errors(f"decode {len(prompts.labels)} prompts with {self.engine.name}"):
            return self.engine.decode_batch(features, (prompts.coordinates, prompts.labels), masks, dense=dense)


#: Losses of one scene, in parts that add up: image features, true masks (n, s, s) bool on the device, generator.
SceneLosses = Callable[[tuple[Tensor, ...], Tensor, torch.Generator], Iterator[Tensor]]


def fit_head(
    module: nn.Module,
    frozen: Frozen,
    losses: SceneLosses,
    data: TrainingData,
    settings: LoopSettings,
    out: Path,
    *,
    stamp: Mapping[str, str],
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    resume: bool = True,
    validation_images: int = VALIDATION_IMAGES,
) -> Trained:
    """Train a head on one image of `data` a step, with at most 32 of its objects; see :func:`train_head`.

    The validation loss is the mean over the same images with the same prompts every time.

    Parameters
    ----------
    module : torch.nn.Module
        Initialised; moved to the model's device.
    frozen : Frozen
    losses : callable
        A :data:`SceneLosses`, such as one part for each of the eight steps of `step_prompts`.
    data : TrainingData
    settings : LoopSettings
    out : Path
    stamp : mapping of str to str
        Of the head; the checkpoint's hash and the images are added.
    report, cancelled, resume
        As in :func:`train_head`.
    validation_images : int
    """

    def of_scene(scene: Scene, generator: torch.Generator) -> Iterator[Tensor]:
        truth = choose_objects(scene.masks, generator).to(frozen.device)
        return losses(frozen.embed(scene.image), truth, generator)

    def step_loss(generator: torch.Generator) -> Iterator[Tensor]:
        return of_scene(data.training.draw(generator, frozen.resolution), generator)

    def validate() -> float:
        generator = torch.Generator().manual_seed(settings.seed + 1_000_003)
        total = 0.0
        for _ in range(validation_images):
            scene = data.validation.draw(generator, frozen.resolution)
            total += sum(part.item() for part in of_scene(scene, generator))
        return total / validation_images

    decided = {
        **stamp,
        "checkpoint_sha256": frozen.engine.sha256,
        "images": data.training.name,
        "validation": f"{data.validation.name}, {validation_images} draws",
    }
    return train_head(
        module.to(frozen.device),
        step_loss,
        validate,
        settings,
        out,
        stamp=decided,
        report=report,
        cancelled=cancelled,
        resume=resume,
    )


def metadata_of(trained: Trained, settings: LoopSettings, data: TrainingData, engine: Sam2Engine) -> dict[str, str]:
    """How a head was trained, for the metadata of its part."""
    return {
        "model": engine.name,
        "settings": json.dumps(asdict(settings)),
        "images": data.training.name,
        "validation": data.validation.name,
        **trained.facts,
        **{name: version(name) for name in ("napari-uncertsam", "torch")},
    }
