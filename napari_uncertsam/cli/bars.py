"""A progress bar with the time left, on stderr."""

from __future__ import annotations


class Bar:
    """Shows how much of a known amount is done; gone before an error is printed.

    Parameters
    ----------
    title : str
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # Images differ in size: the rate of the last minutes tells more than that of the last seconds.
        self._progress = Progress(
            *columns, console=Console(stderr=True), transient=True, speed_estimate_period=300, refresh_per_second=2
        )
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, done: float, total: int) -> None:
        """Show how many of all are done; a fraction is one under way."""
        self._progress.update(self._task, completed=done, total=total)
