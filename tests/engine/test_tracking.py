"""The walk through the slices against SAM 2's own video predictor, on the same random weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch.nn import functional as F

from napari_uncertsam.engine import RemembersSlices, Sam2Engine
from napari_uncertsam.engine.building import normalise
from napari_uncertsam.engine.tracking import NO_OBJECT
from napari_uncertsam.prompts import Box, Point, Prompts
from tests.tiny import tiny_config, tiny_engine

SIDE, COUNT = 64, 12


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Sam2Engine:
    engine = tiny_engine(tmp_path_factory.mktemp("tiny"))
    with torch.no_grad():  # random weights that do not say "no object" at every slice
        engine.model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
        torch.nn.init.normal_(engine.model.maskmem_tpos_enc, std=0.5, generator=torch.Generator().manual_seed(3))
    return engine


@pytest.fixture(scope="module")
def slices() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 60, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    for z in range(COUNT):
        ground[z, 16 + z : 40 + z, 20:44] += 150
    return ground


def predictor_of(engine: Sam2Engine, folder: Path) -> Any:
    """The video predictor with the weights of an engine."""
    config = OmegaConf.load(tiny_config(folder)).model
    config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(config, _recursive_=True).eval()
    predictor.load_state_dict(engine.model.state_dict())
    return predictor


def state_of(predictor: Any, slices: NDArray[np.uint8]) -> dict[str, Any]:
    """What `init_state` makes of a folder of pictures, without their compression."""
    images = normalise(torch.as_tensor(slices).movedim(-1, 1).float() / 255)
    empty: tuple[str, ...] = (
        "point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "output_dict_per_obj",
        "temp_output_dict_per_obj", "frames_tracked_per_obj",
    )  # fmt: skip
    state: dict[str, Any] = {name: {} for name in empty}
    state |= {"images": images, "num_frames": len(slices), "offload_video_to_cpu": False}
    state |= {"offload_state_to_cpu": False, "video_height": SIDE, "video_width": SIDE}
    state |= {"device": torch.device("cpu"), "storage_device": torch.device("cpu")}
    state |= {"obj_id_to_idx": OrderedDict(), "obj_idx_to_id": OrderedDict(), "obj_ids": []}
    return state


def walk(
    engine: Sam2Engine, slices: NDArray[np.uint8], start: int, prompts: Prompts, indices: range
) -> dict[int, NDArray[np.float32]]:
    tracker, out = engine.tracker(COUNT), {}
    embedding = engine.embed(slices[start])
    logits = engine.decode(embedding, [prompts]).logits[0].numpy()
    tracker.know(0, embedding, logits, prompts)
    for index in indices:
        decoded = tracker.look(abs(index - start), engine.embed(slices[index]))
        out[index] = torch.where(decoded.object_score > 0, decoded.logits[0], NO_OBJECT).numpy()
        tracker.remember(abs(index - start))
    return out


@pytest.mark.parametrize("reverse", [False, True])
def test_walk_is_that_of_the_video_predictor(
    engine: Sam2Engine, slices: NDArray[np.uint8], tmp_path: Path, reverse: bool
) -> None:
    predictor = predictor_of(engine, tmp_path)
    state, start = state_of(predictor, slices), 11 if reverse else 0
    predictor.add_new_points_or_box(
        state, start, 1, box=np.array([20, 16 + start, 43, 39 + start], np.float32), normalize_coords=True
    )
    theirs = {}
    for index, _, _ in predictor.propagate_in_video(state, start_frame_idx=start, reverse=reverse):
        kind = "cond_frame_outputs" if index == start else "non_cond_frame_outputs"
        theirs[index] = state["output_dict_per_obj"][0][kind][index]["pred_masks"][0, 0].numpy()
    prompts = Prompts(box=Box(16 + start, 20, 39 + start, 43))
    ours = walk(engine, slices, start, prompts, range(10, -1, -1) if reverse else range(1, COUNT))
    assert len(ours) == COUNT - 1
    for index, logits in ours.items():
        np.testing.assert_allclose(logits, theirs[index], atol=2e-4, rtol=1e-4)
    # The memory matters: without it the first and the last slice would not differ as they do.
    assert np.abs(ours[5] - ours[6]).max() > 1e-3


def test_memories_kept_do_not_grow(engine: Sam2Engine, slices: NDArray[np.uint8]) -> None:
    tracker = engine.tracker(1000)
    embedding = engine.embed(slices[0])
    prompts = Prompts(box=Box(16, 20, 39, 43))
    tracker.know(0, embedding, engine.decode(embedding, [prompts]).logits[0].numpy(), prompts)
    for step in range(1, 40):
        tracker.look(step, embedding)
        tracker.remember(step)
    kept = tracker._memories["non_cond_frame_outputs"]
    assert len(kept) == engine.model.max_obj_ptrs_in_encoder - 1
    assert sum(entry["maskmem_features"] is not None for entry in kept.values()) == engine.model.num_maskmem - 1


def test_a_confirmed_mask_is_remembered_as_it_is(engine: Sam2Engine, slices: NDArray[np.uint8]) -> None:
    embedding = engine.embed(slices[0])
    mask = np.full((16, 16), -10, np.float32)
    mask[4:10, 5:11] = 10
    full = (F.interpolate(torch.as_tensor(mask)[None, None], (64, 64), mode="bilinear") > 0).float()
    plain = embedding.features[-1] - engine.model.no_mem_embed.reshape(1, -1, 1, 1)
    with torch.inference_mode():
        expected = engine.model._use_mask_as_output(plain, list(embedding.features[:-1]), full)
    engine.forget_captured()
    tracker = engine.tracker(4)
    tracker.know(0, embedding, mask, None)
    known = tracker._memories["cond_frame_outputs"][0]
    torch.testing.assert_close(known["obj_ptr"], expected[-2])
    assert isinstance(engine, RemembersSlices)


def test_another_mask_can_be_remembered(engine: Sam2Engine, slices: NDArray[np.uint8]) -> None:
    embedding, prompts = engine.embed(slices[0]), Prompts((Point(28, 32),))
    outcomes = []
    for logits in (None, np.full((16, 16), -8, np.float32)):
        tracker = engine.tracker(COUNT)
        tracker.know(0, embedding, engine.decode(embedding, [prompts]).logits[0].numpy(), prompts)
        tracker.look(1, embedding)
        tracker.remember(1, logits)
        outcomes.append(tracker.look(2, embedding).logits.numpy())
    assert np.abs(outcomes[0] - outcomes[1]).max() > 1e-4
