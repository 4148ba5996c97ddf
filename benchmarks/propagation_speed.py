"""Seconds and memory of propagation, beside SAM 2's own `SAM2VideoPredictor` with the same weights on the same slices.

    python benchmarks/propagation_speed.py [--slices 60] [--repeats 1] [--cache-mb 1024] [--json FILE]

SAM 2.1 tiny with random weights, which take as long as trained ones. A box on one slice in the middle of a volume of
1,000 that is mapped from a file, then forward, whole slices. Ours ends in a mask of the slice with its uncertainty and
figures, theirs in a mask. Each side is a process of its own, for its memory; they take turns slice by slice, so that
whatever else the machine does hits both. CPU only.

The model takes the length of a video into account up to 16 slices, and theirs is as long as the walk: with fewer, the
masks differ.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
SIDE, MIB, LONG = 512, 2**20, 1000
OURS, THEIRS = "ours", "SAM2VideoPredictor"
#: y0, x0, y1, x1 of the box on the first slice.
BOX = (150.0, 170.0, 330.0, 370.0)
#: Added to the object score: random weights would say that there is no object.
PRESENT = 5.0


def slice_of(index: int) -> NDArray[np.int16]:
    """A slice in HU with an organ that moves."""
    rng = np.random.default_rng(index)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    organ = ((rows - 240 - index % 60) / 90) ** 2 + ((columns - 270) / 100) ** 2 < 1
    return (np.where(organ, 110, -60) + rng.normal(0, 40, (SIDE, SIDE))).astype(np.int16)


def memory_now() -> dict[str, int]:
    """Resident bytes: of the process itself, and of files mapped into it."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    anonymous, files = (1024 * int(lines[name].split()[0]) for name in ("RssAnon", "RssFile"))
    return {"anonymous": anonymous, "files": files}


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def built(config: Any) -> Any:
    """A model of a configuration with the same random weights in both processes, whose object does not end."""
    import torch
    from hydra.utils import instantiate

    torch.manual_seed(0)
    model = instantiate(config, _recursive_=True)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(PRESENT)
    return model.eval().requires_grad_(False)


def configuration() -> Any:
    """SAM 2.1 tiny as `build_sam2` and `build_model` set it for prediction."""
    from omegaconf import OmegaConf

    from napari_uncertsam.engine.building import STABILITY_FALLBACK, config_path

    loaded = OmegaConf.load(config_path(CONFIG))
    OmegaConf.resolve(loaded)
    loaded.model.sam_mask_decoder_extra_args = dict(STABILITY_FALLBACK)
    return loaded.model


def digest_of(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


class Ours:
    """The pipeline, as the widget uses it."""

    def __init__(self, cache_bytes: int) -> None:
        from napari_uncertsam.engine import Sam2Engine
        from napari_uncertsam.estimators.laplace import Laplace, LaplacePosteriors
        from napari_uncertsam.pipeline import Pipeline

        self.model = built(configuration())
        engine = Sam2Engine(self.model, "sam2.1-tiny", device="cpu")
        decoder = self.model.sam_mask_decoder
        outputs = decoder.transformer_dim // 8
        prior = LaplacePosteriors.prior(decoder.num_mask_tokens, outputs, decoder.transformer_dim, 1000.0)
        laplace = Laplace(posteriors=prior)

        class WithPrior(Pipeline):
            """Nothing is fitted to random weights."""

            def method(self, name: str) -> Any:
                return laplace

        self.pipeline = WithPrior(engine, cache_bytes)
        self.results: list[Any] = []

    def walk(self, array: Any, start: int, stop: int) -> Iterator[NDArray[np.bool_]]:
        """The mask on every slice from `start` on."""
        from napari_uncertsam.prediction import Settings
        from napari_uncertsam.prompts import Box, Prompts
        from napari_uncertsam.propagating import PropagationRequest, Span, propagate
        from napari_uncertsam.propagation import Anchor
        from napari_uncertsam.view import View
        from napari_uncertsam.volume import Volume

        volume = Volume(array, spacing=(1.0, 0.8, 0.8), modality="CT")
        pipeline, view, window = self.pipeline, View.whole(SIDE, SIDE), window_of()
        prompts = Prompts(box=Box(*BOX))
        embedding = pipeline.embedding(volume.slice(0, start), window, view)
        local = view.prompts_to_view(prompts, pipeline.engine.resolution)
        logits = pipeline.engine.decode(embedding, [local]).logits[0].numpy()
        yield view.local_map(logits, SIDE, SIDE) > 0
        anchor = Anchor(start, view, logits, prompts)
        settings = Settings(model="sam2.1-tiny", zoom=False)
        spans = (Span(start + 1, stop, before=start),)
        for told in propagate(pipeline, volume, PropagationRequest("", 0, window, 1, settings, (anchor,), spans)):
            self.results.append(told)
            yield told.local_mask()[2]

    def held(self) -> dict[str, int]:
        """Bytes of what is kept on purpose."""
        cache = sum(entry.nbytes for entry in self.pipeline.cache._entries.values())
        return {"cache": cache, "results": sum(told.nbytes for told in self.results)}


class Theirs:
    """The video predictor as `build_sam2_video_predictor` makes it, without its CUDA filling of holes."""

    def __init__(self) -> None:
        config = configuration()
        config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
        self.model = built(config)

    def walk(self, array: Any, start: int, stop: int) -> Iterator[NDArray[np.bool_]]:
        """As :meth:`Ours.walk`."""
        state = self._state(array[start:stop])
        y0, x0, y1, x1 = BOX
        box = np.array([x0, y0, x1, y1], np.float32)
        self.model.add_new_points_or_box(state, 0, 1, box=box, normalize_coords=True)
        for _, _, masks in self.model.propagate_in_video(state):
            yield (masks[0, 0] > 0).numpy()

    def held(self) -> dict[str, int]:
        """Nothing is told apart."""
        return {}

    def _state(self, array: Any) -> dict[str, Any]:
        """What `init_state` makes of a folder of pictures, without their compression."""
        import torch
        from torch.nn import functional as F

        from napari_uncertsam.engine.building import normalise

        window, size = window_of(), self.model.image_size
        images = torch.zeros(len(array), 3, size, size)
        for index, raw in enumerate(array):
            tensor = torch.as_tensor(window.apply(raw)).movedim(-1, 0)[None].float() / 255
            resized = F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=True)
            images[index] = normalise(resized)[0]
        empty = (
            "point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "output_dict_per_obj",
            "temp_output_dict_per_obj", "frames_tracked_per_obj",
        )  # fmt: skip
        state: dict[str, Any] = {name: {} for name in empty}
        state |= {"images": images, "num_frames": len(images), "offload_video_to_cpu": False}
        state |= {"offload_state_to_cpu": False, "video_height": SIDE, "video_width": SIDE}
        state |= {"device": torch.device("cpu"), "storage_device": torch.device("cpu")}
        return state | {"obj_id_to_idx": OrderedDict(), "obj_idx_to_id": OrderedDict(), "obj_ids": []}


def window_of() -> Any:
    from napari_uncertsam.volume import Window

    return Window(-160, 240)


def mapped(folder: Path, start: int, count: int) -> Any:
    """A volume as NIfTI stores it, ``(x, y, z)`` in Fortran order, seen as ``(Z, Y, X)``.

    Only the slices that are needed are written, the rest is a hole in the file.
    """
    stored = np.memmap(folder / "volume.raw", np.int16, "w+", shape=(SIDE, SIDE, LONG), order="F")
    for index in range(start, start + count):
        stored[:, :, index] = slice_of(index).T
    stored.flush()
    del stored
    return np.memmap(folder / "volume.raw", np.int16, "r", shape=(SIDE, SIDE, LONG), order="F").T


def work(side: str, slices: int, cache_bytes: int) -> None:
    """A process: a slice for every line that comes in, a line of JSON for every slice."""
    out, sys.stdout = sys.stdout, sys.stderr
    os.environ["TQDM_DISABLE"] = "1"

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=out, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        start = LONG // 2
        array = mapped(Path(folder), start, slices)
        worker = Ours(cache_bytes) if side == OURS else Theirs()
        weights = digest_of(worker.model)
        gc.collect()
        tell(weights=weights, **memory_now())
        walk = worker.walk(array, start, start + slices)
        for _ in range(slices):
            if not sys.stdin.readline():
                return
            begun = time.perf_counter()
            mask = next(walk)
            seconds = time.perf_counter() - begun
            bits = np.packbits(mask).tobytes().hex()
            tell(seconds=seconds, mask=bits, peak=peak(), **memory_now(), **worker.held())


def started(side: str, slices: int, cache_bytes: int) -> subprocess.Popen[str]:
    options = ["--side", side, "--slices", str(slices), "--cache-mb", str(cache_bytes // MIB)]
    command = [sys.executable, __file__, *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit("A process ended early; what it said is above.")
    told: dict[str, Any] = json.loads(line)
    return told


def race(slices: int, cache_bytes: int) -> dict[str, Any]:
    """One walk of both sides, slice by slice in turn; who goes first alternates."""
    sides = {side: started(side, slices, cache_bytes) for side in (OURS, THEIRS)}
    first = {side: heard(process) for side, process in sides.items()}
    if len({told.pop("weights") for told in first.values()}) != 1:
        raise SystemExit("The two sides do not have the same weights.")
    told: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    masks: dict[str, list[NDArray[np.uint8]]] = {side: [] for side in sides}
    for index in range(slices):
        for side in (OURS, THEIRS) if index % 2 else (THEIRS, OURS):
            print("next", file=sides[side].stdin, flush=True)
            one = heard(sides[side])
            masks[side].append(np.unpackbits(np.frombuffer(bytes.fromhex(one.pop("mask")), np.uint8)))
            told[side].append(one)
            print(index, side, one, file=sys.stderr, flush=True)
    for process in sides.values():
        process.communicate()
    ours, theirs = (np.stack(masks[side]) for side in (OURS, THEIRS))
    pixels = {"different": int((ours != theirs).sum()), "inside": int(theirs.sum())}
    return {"slices": slices, "pixels": pixels, "loaded": first, OURS: told[OURS], THEIRS: told[THEIRS]}


def resident(told: dict[str, int]) -> int:
    return told["anonymous"] + told["files"]


def row_of(title: str, ours: float, theirs: float, digits: int) -> str:
    return f"| {title} | {ours:.{digits}f} | {theirs:.{digits}f} | {ours / theirs:.3f} |"


def speed(found: list[dict[str, Any]]) -> str:
    """Table of both sides: a slice (from the third on, where both do the same), a walk, memory."""
    steps = {side: [t["seconds"] for race in found for t in race[side][2:]] for side in (OURS, THEIRS)}
    ratios = [a / b for a, b in zip(steps[OURS], steps[THEIRS], strict=True)]
    a, b = (statistics.median(steps[side]) for side in (OURS, THEIRS))
    lines = ["| | ours | SAM2VideoPredictor | ratio |", "|---|---:|---:|---:|", row_of("a slice, median, s", a, b, 2)]
    for race in found:
        sides, n = [race[OURS], race[THEIRS]], race["slices"]
        peaks = [side[-1]["peak"] / MIB for side in sides]
        before = [resident(race["loaded"][side]) / MIB for side in (OURS, THEIRS)]
        lines += [
            row_of(f"{n} slices, s", *(sum(t["seconds"] for t in side) for side in sides), 1),
            row_of("peak memory, MiB", *peaks, 0),
            row_of("since the model was loaded, MiB", *(p - b for p, b in zip(peaks, before, strict=True)), 0),
        ]
    lines.append(
        f"\nRatio of one slice: median {statistics.median(ratios):.3f}, {min(ratios):.2f} to {max(ratios):.2f}."
    )
    different, inside = (sum(race["pixels"][name] for race in found) for name in ("different", "inside"))
    lines.append(f"Pixels of the masks that differ: {different}, of {inside} inside.")
    return "\n".join(lines)


def memory(told: list[dict[str, int]], loaded: dict[str, int]) -> str:
    """Table of what our side holds on its way, in MiB."""
    lines = ["| slices done | resident | embeddings kept | results | mapped files | all else |", "|---:" * 6 + "|"]
    for count in sorted({0, 12, 24, 36, 48, len(told) - 1}):
        if count < len(told):
            now = told[count] if count else {**loaded, "cache": 0, "results": 0}
            rest = now["anonymous"] - now["cache"] - now["results"]
            parts = (resident(now), now["cache"], now["results"], now["files"], rest)
            lines.append(f"| {count} | " + " | ".join(f"{part / MIB:.0f}" for part in parts) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=60, help="how many, with that of the box")
    parser.add_argument("--repeats", type=int, default=1, help="walks of both sides")
    parser.add_argument("--cache-mb", type=int, default=1024, help="memory for embeddings, MiB; 1,024 as in the widget")
    parser.add_argument("--json", type=Path, help="write every number to this file too")
    parser.add_argument("--side", choices=[OURS, THEIRS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not 4 <= args.slices <= LONG // 2 or args.repeats < 1:
        parser.error(f"give 4 to {LONG // 2} slices and at least one repeat")
    if args.side:
        work(args.side, args.slices, args.cache_mb * MIB)
        return
    found = [race(args.slices, args.cache_mb * MIB) for _ in range(args.repeats)]
    print(f"SAM 2.1 tiny, random weights, {SIDE} x {SIDE} slices, CPU, {platform.machine()}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}\n\n{speed(found)}\n\n{memory(found[0][OURS], found[0]['loaded'][OURS])}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
