"""The MPA adapter of MedSAM-U: small insertions into a frozen image encoder, and a prompt encoder of its own.

Every block of the trunk gets two bottlenecks, as the paper draws them and Medical-SAM-Adapter codes them:

- Adapter 1 on the output `a` of the attention, inside the residual: ``x + A1(a)``, ``A1(a) = a + up(relu(down(a)))``;
- Adapter 2 beside the MLP, on the same normalised input `n`: ``x + mlp(n) + s A2(n)``, ``A2(n) = up(relu(down(n)))``.

The blocks of a convolutional trunk (the bundled model's) have a single branch. There Adapter 1 is on its output `b`,
inside the residual, and Adapter 2 beside it, on the same input, where there is a residual: ``x + A1(b) + s A2(x)``.

SAM 2 is not changed: both are forward hooks, and the prompt encoder takes the other's place until it is given back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from napari_uncertsam.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from napari_uncertsam.checkpoints import Part

Init = Literal["zero", "paper"]
Activation = Literal["relu", "gelu"]
#: Bottleneck width as a share of a block's, and what Adapter 2 is multiplied by (Medical-SAM-Adapter).
REDUCTION, SCALE = 4, 0.5
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class AdapterSettings:
    """What the papers leave open.

    Parameters
    ----------
    init : {"zero", "paper"}
        "zero": the last layer starts at zero, so that the model starts as it was. "paper": a linear layer's usual
        random weights, as in Medical-SAM-Adapter, from which the model first has to recover.
    activation : {"relu", "gelu"}
        MedSAM-U's text has ReLU, Medical-SAM-Adapter's code GELU.
    scale : float
        Of Adapter 2.

    Raises
    ------
    InputError
        If a name is unknown.
    """

    init: Init = "zero"
    activation: Activation = "relu"
    scale: float = SCALE

    def __post_init__(self) -> None:
        for name, known in (("init", get_args(Init)), ("activation", get_args(Activation))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"There is no {name} {getattr(self, name)!r} of an adapter; choose one of {', '.join(known)}."
                )


class Adapter(nn.Module):
    """A bottleneck on the last axis, which is why it may come before or after anything that only moves pixels.

    Parameters
    ----------
    width : int
        Of input and output; the bottleneck has a quarter of it.
    skip : bool
        Add the input.
    settings : AdapterSettings

    Examples
    --------
    >>> sum(p.numel() for p in Adapter(768).parameters())
    295872
    """

    def __init__(self, width: int, *, skip: bool = False, settings: AdapterSettings | None = None) -> None:
        super().__init__()
        settings = settings or AdapterSettings()
        self.skip = skip
        self.down = nn.Linear(width, width // REDUCTION)
        self.activation = _ACTIVATIONS[settings.activation]()
        self.up = nn.Linear(width // REDUCTION, width)
        if settings.init == "zero":
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to the same shape."""
        change: Tensor = self.up(self.activation(self.down(x)))
        return x + change if self.skip else change


class EncoderAdapters(nn.Module):
    """Two adapters for each block of an image encoder's trunk.

    Parameters
    ----------
    widths : sequence of int
        Channels that each block gives (``dim_out`` in SAM 2).
    settings : AdapterSettings
    """

    def __init__(self, widths: list[int], settings: AdapterSettings | None = None) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Adapter(width, skip=True, settings=settings) for width in widths)
        self.mlp = nn.ModuleList(Adapter(width, settings=settings) for width in widths)


class MpaAdapter(nn.Module):
    """All that is trained: the encoder's adapters and a copy of the prompt encoder.

    Parameters
    ----------
    encoder : EncoderAdapters
    prompt_encoder : torch.nn.Module
    settings : AdapterSettings
    """

    def __init__(self, encoder: EncoderAdapters, prompt_encoder: nn.Module, settings: AdapterSettings) -> None:
        super().__init__()
        self.encoder, self.prompt_encoder, self.settings = encoder, prompt_encoder, settings

    @classmethod
    def of_model(cls, model: Any, settings: AdapterSettings | None = None, seed: int = 0) -> MpaAdapter:
        """Untrained, for a SAM 2 of any size; the prompt encoder starts as the model's.

        Parameters
        ----------
        model : sam2.modeling.sam2_base.SAM2Base
        settings : AdapterSettings, optional
        seed : int
            Of what is random at the start; the caller's random streams are left alone.
        """
        settings = settings or AdapterSettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = EncoderAdapters([block.dim_out for block in model.image_encoder.trunk.blocks], settings)
        prompt_encoder = copy.deepcopy(model.sam_prompt_encoder).requires_grad_(True)
        return cls(encoder, prompt_encoder, settings)

    @classmethod
    def of_part(cls, part: Part, model: Any) -> MpaAdapter:
        """A trained one for the model that it belongs to.

        Raises
        ------
        CheckpointError
            If it has been trained for another architecture.
        """
        known = part.metadata
        try:
            settings = AdapterSettings(
                activation=cast("Activation", known.get("activation", "relu")), scale=float(known.get("scale", SCALE))
            )
            made = cls.of_model(model, settings)
            made.load_state_dict(dict(part.tensors))
        except (InputError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"The MPA adapter {part.path} does not fit this model's image encoder; fit it again."
            ) from error
        return made.requires_grad_(False).eval()


class Attached:
    """An adapter in use; see :func:`attach`."""

    def __init__(self, undo: list[Callable[[], Any]]) -> None:
        self._undo = undo

    def detach(self) -> None:
        """Leave the model as it was before; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def attach(model: Any, mpa: MpaAdapter) -> Attached:
    """Let a SAM 2 run with an adapter until it is detached, or until the end of a ``with`` block.

    Adapter 1 acts on what the attention gives, before windows are put together again and their padding is cut off. It
    is pointwise, so this is what it would give after that.

    Parameters
    ----------
    model : sam2.modeling.sam2_base.SAM2Base
    mpa : MpaAdapter
        Of this model's architecture; moved to its device.

    Returns
    -------
    Attached
    """
    blocks = model.image_encoder.trunk.blocks
    mpa.to(next(model.parameters()).device)
    own, scale = model.sam_prompt_encoder, mpa.settings.scale
    undo: list[Callable[[], Any]] = []
    for block, first, second in zip(blocks, mpa.encoder.attention, mpa.encoder.mlp, strict=True):
        for module, hook in _hooks(block, first, second, scale):
            undo.append(module.register_forward_hook(hook).remove)
    model.sam_prompt_encoder = mpa.prompt_encoder
    undo.append(lambda: setattr(model, "sam_prompt_encoder", own))
    return Attached(undo)


def _hooks(block: Any, first: nn.Module, second: nn.Module, scale: float) -> Iterator[tuple[nn.Module, Any]]:
    """Which modules of a block are hooked, and with what."""
    if hasattr(block, "attn"):
        yield block.attn, lambda _module, _inputs, output: first(output)
        yield block.mlp, lambda _module, inputs, output: output + scale * second(inputs[0])
        return

    def on_branch(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed: Tensor = first(output.movedim(1, -1))
        if block.residual:
            changed = changed + scale * second(inputs[0].movedim(1, -1))
        return changed.movedim(-1, 1)

    yield block.layers, on_branch
