"""Random streams that follow from several numbers: the seed of a run, the number of a batch, the process."""

from __future__ import annotations

import numpy as np
import torch


def generator_of(*numbers: int) -> torch.Generator:
    """A generator that follows from all of the numbers, in their order.

    PyTorch's generator for the CPU takes the last 32 bits of a seed and forgets the rest: numbers that are packed into
    one seed side by side would not all count.

    Parameters
    ----------
    *numbers : int
        0 or more each.

    Examples
    --------
    >>> import torch
    >>> one, other = (torch.rand(3, generator=generator_of(seed, 5)) for seed in (1, 2))
    >>> bool(torch.equal(one, other))
    False
    """
    key = (len(numbers), *numbers)  # zeros at the end would not count
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
