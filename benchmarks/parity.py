"""The engine's logits beside SAM2ImagePredictor's, same (random) weights, for every SAM 2.1 architecture.

    python benchmarks/parity.py [--models tiny small base-plus large] [--json FILE]

Prints the largest absolute difference of the low-resolution logits for a box, points, both, and with a mask prompt.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import numpy as np
import torch

from napari_uncertsam.engine import Sam2Engine, build_model
from napari_uncertsam.prompts import Box, MaskPrompt, Point, Prompts

CONFIGS = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
BOX = Box(60, 40, 150, 130)
POINTS = (Point(100, 90), Point(20, 200, positive=False))


def cases() -> dict[str, Prompts]:
    """The kinds of prompts that are compared."""
    mask = MaskPrompt(np.random.default_rng(3).normal(0, 4, (256, 256)).astype(np.float32))
    return {
        "box": Prompts(box=BOX),
        "points": Prompts(POINTS),
        "box and points": Prompts(POINTS, BOX),
        "box and mask": Prompts((), BOX, mask),
        "points and mask": Prompts(POINTS, None, mask),
    }


def differences(name: str) -> dict[str, float]:
    """Largest absolute difference per kind of prompt for one architecture."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    torch.manual_seed(0)
    config = f"configs/sam2.1/sam2.1_hiera_{CONFIGS[name]}.yaml"
    engine = Sam2Engine(build_model(config, fallback=True), f"sam2.1-{name} (random weights)", device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (180, 240, 3), dtype=np.uint8)
    image[60:150, 40:130] = 200
    predictor = SAM2ImagePredictor(engine.model)
    predictor.set_image(image)
    embedding, out = engine.embed(image), {}
    for kind, prompts in cases().items():
        xy = np.array([(p.x, p.y) for p in prompts.points], np.float32) if prompts.points else None
        labels = np.array([int(p.positive) for p in prompts.points]) if prompts.points else None
        box = np.array([prompts.box.x0, prompts.box.y0, prompts.box.x1, prompts.box.y1]) if prompts.box else None
        mask = None if prompts.mask is None else prompts.mask.logits[None].copy()
        theirs = predictor.predict(xy, labels, box, mask, multimask_output=False)[2][0]
        ours = engine.decode(embedding, [prompts]).logits[0].clamp(-32, 32).cpu().numpy()
        out[kind] = float(np.abs(ours - theirs).max())
    return out


def main() -> None:
    """Compare the architectures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CONFIGS), default=["tiny"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for name in options.models:
        results[name] = differences(name)
        print(f"sam2.1-{name} (random weights): " + ", ".join(f"{k} {v:.1e}" for k, v in results[name].items()))
        gc.collect()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
