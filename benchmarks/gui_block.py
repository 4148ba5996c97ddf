"""How long the window stands still while a large model embeds a slice in the worker thread.

Opens napari with the widget, draws a box on a 512 x 512 slice and measures, with a timer that should fire every 5 ms in
the GUI thread, the longest time it did not. Each prediction is of another box, so nothing comes from the cache, and the
whole slice is embedded (zoom off). The time counts from the moment the box is there until its result is on the layers.

Without a display the script starts itself again under xvfb-run with ``--hidden``: there the window would be painted by
the processor, which takes longer than all else, so the painting is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def slice_like_ct(side: int, seed: int) -> np.ndarray:
    """A smooth random slice with a bright organ, in HU, int16."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 6)
    rows, columns = np.ogrid[:side, :side]
    organ = ((rows - side / 2) / (side / 5)) ** 2 + ((columns - side / 2) / (side / 4)) ** 2 < 1
    return np.where(organ, 110, -60).astype(np.int16) + (400 * noise).astype(np.int16)


class Heartbeat:
    """Beats every 5 ms in the GUI thread and keeps the gaps, in seconds."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def take(self) -> np.ndarray:
        gaps, self.gaps = np.array(self.gaps), []
        return gaps


def engine(name: str) -> Any:
    """SAM 2.1 tiny with random weights, or a model that is on disk."""
    from napari_uncertsam.engine import Sam2Engine, build_model

    if name != "random":
        return Sam2Engine.load(name)
    model = build_model("configs/sam2.1/sam2.1_hiera_t.yaml", fallback=True)
    return Sam2Engine(model, "sam2.1-tiny (random weights)")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import napari
    import torch
    from qtpy.QtWidgets import QApplication

    from napari_uncertsam.prompts import Box
    from napari_uncertsam.ui.jobs import Jobs
    from napari_uncertsam.ui.plugin import make_widget

    side, repeats = options.side, options.repeats
    if options.threads:
        torch.set_num_threads(options.threads)
    viewer = napari.Viewer(show=not options.hidden)
    volume = np.stack([slice_like_ct(side, seed) for seed in range(repeats + 1)])
    viewer.add_image(volume, contrast_limits=(-160, 240), name="slices")
    coordinator = make_widget(viewer, Jobs(lambda _name: engine(options.model))).coordinator
    if not coordinator.wait(300):
        sys.exit("The model was not loaded in 300 seconds.")
    coordinator.choices.change(zoom=False, method=options.method)
    heartbeat, worst, late, seconds = Heartbeat(), [], [], []
    stop = time.perf_counter() + options.idle
    while time.perf_counter() < stop:
        QApplication.processEvents()
        time.sleep(0.001)
    quiet = heartbeat.take()
    for index in range(repeats + 1):
        viewer.dims.set_point(0, index)
        QApplication.processEvents()
        heartbeat.take()
        coordinator.session.set_box(Box(0.3 * side, 0.25 * side, 0.7 * side, 0.75 * side))
        while coordinator.is_busy or not coordinator.target.sync.is_drawn:
            QApplication.processEvents()
            time.sleep(0.0005)
        QApplication.processEvents()
        prediction = coordinator.session.prediction
        if prediction is None:
            sys.exit(coordinator.view.message())
        gaps = heartbeat.take()
        if index:  # the first one warms everything up
            worst.append(float(gaps.max()))
            late.append(int((gaps > 0.05).sum()))
            seconds.append(prediction.seconds["total"])
    record = prediction.record
    viewer.close()
    return {
        "model": record["model"],
        "device": record["device"],
        "method": options.method,
        "slice": [side, side],
        "painted": not options.hidden,
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "processors": os.cpu_count(),
        "prediction_seconds": [round(s, 3) for s in seconds],
        "longest_block_ms": [round(1000 * w, 1) for w in worst],
        "blocks_over_50_ms": late,
        "longest_block_ms_median": round(1000 * float(np.median(worst)), 1),
        "longest_block_ms_max": round(1000 * max(worst), 1),
        "longest_block_ms_idle": round(1000 * float(quiet.max()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random", help="'random' (SAM 2.1 tiny) or the name of a model on disk")
    parser.add_argument("--method", default="entropy", help="how uncertainty is estimated: entropy, prompt, ...")
    parser.add_argument("--hidden", action="store_true", help="do not show, so not paint, the window")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--idle", type=float, default=2.0, help="seconds of doing nothing, for comparison")
    parser.add_argument("--threads", type=int, help="torch threads; torch's default if left out")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    options = parser.parse_args()
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        if shutil.which("xvfb-run") is None:
            sys.exit("A display is needed, or xvfb-run (Debian: apt-get install xvfb) to pretend one.")
        hidden = [] if options.hidden else ["--hidden"]
        os.execvp("xvfb-run", ["xvfb-run", "-a", sys.executable, *sys.argv, *hidden])
    result = measure(options)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
