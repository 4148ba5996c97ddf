"""Several processes that train one model together: each on its own scenes, all with the mean of their gradients.

On a CPU two processes of one thread each do more than one process of two threads, which wait for one another after
every layer; on a machine with several GPUs each gets one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """One of the processes that train together; alone, nothing is exchanged.

    Parameters
    ----------
    rank, size : int
        Which process, of how many.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what is written."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """What the first process says."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        torch.distributed.broadcast(tensor, 0)
        return float(tensor.item())

    def average(self, gradients: Sequence[Tensor], measured: Sequence[float]) -> tuple[float, ...]:
        """Put the mean over all processes into the gradients, and give the mean of some numbers."""
        if self.size == 1:
            return tuple(measured)
        numbers = torch.tensor(measured, dtype=torch.float32)
        flat = torch.cat([numbers, *(g.detach().float().cpu().flatten() for g in gradients)])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat[len(numbers) :], [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return tuple(flat[: len(numbers)].tolist())


def run_ranks(size: int, work: Callable[..., None], *arguments: Any, **own: Any) -> None:
    """Call ``work(ranks, *arguments)`` in `size` processes and wait for them.

    The first is this process, which also gets the arguments in `own` (by which it reports).
    """
    if size == 1:
        work(Ranks(), *arguments, **own)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_other, args=(r, size, port, work, arguments), daemon=True) for r in range(1, size)
    ]
    for process in others:
        process.start()
    threads = torch.get_num_threads()
    try:
        _join(0, size, port)
        work(Ranks(0, size), *arguments, **own)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)
        for process in others:
            process.join(30)
            process.terminate()


def _join(rank: int, size: int, port: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size)


def _other(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import contextlib
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops, and this one with it
    _join(rank, size, port)
    with contextlib.suppress(RuntimeError):  # of a connection that the first process has closed
        work(Ranks(rank, size), *arguments)
