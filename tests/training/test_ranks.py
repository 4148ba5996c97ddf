"""Processes that train together: the mean of their gradients, and what the first says."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_uncertsam.training.ranks import Ranks, run_ranks


def work(ranks: Ranks, folder: Path, wanted: float, *, own: float = 0.0) -> None:
    gradients = [torch.full((2, 3), 1.0 + ranks.rank), torch.tensor([4.0 * ranks.rank])]
    measured = ranks.average(gradients, (wanted * (1 + ranks.rank),))
    said = ranks.agree(10.0 + ranks.rank)
    torch.save({"gradients": gradients, "measured": measured, "said": said, "own": own}, folder / f"{ranks.rank}.pt")


def test_all_have_the_mean_and_go_by_what_the_first_says(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    run_ranks(2, work, tmp_path, 2.0, own=7.0)
    assert torch.get_num_threads() == threads
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for result in results:
        assert torch.equal(result["gradients"][0], torch.full((2, 3), 1.5))
        assert result["gradients"][1].item() == 2.0
        assert result["measured"] == (3.0,)
        assert result["said"] == 10.0
    assert [result["own"] for result in results] == [7.0, 0.0]


def test_one_process_alone_exchanges_nothing(tmp_path: Path) -> None:
    run_ranks(1, work, tmp_path, 2.0, own=1.0)
    result = torch.load(tmp_path / "0.pt", weights_only=False)
    assert torch.equal(result["gradients"][0], torch.ones(2, 3))
    assert result["measured"] == (2.0,)
    assert not torch.distributed.is_initialized()
