"""Names, layouts, and the sentences about datasets that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_uncertsam.errors import InputError
from napari_uncertsam.evaluation.datasets import KNOWN, ROOT_VARIABLE, data_root, find_known, open_dataset


def test_the_two_papers_have_eight_and_five() -> None:
    assert [k.key for k in KNOWN.values() if k.benchmark == "UncertSAM"] == [
        *("big", "coift", "cod10k", "msd-spleen", "istd", "sbu", "flare7k", "trans10k")
    ]
    assert [k.key for k in KNOWN.values() if k.benchmark == "MedSAM-U"] == [
        *("isic", "kvasir-seg", "ct2us", "kits23", "brats21")
    ]


def test_the_steps_are_those_of_the_paper_s_table_2() -> None:
    ticked = {k.folder: (k.components, k.colours, k.ct) for k in KNOWN.values() if k.benchmark == "UncertSAM"}
    assert ticked == {
        "BIG": (True, False, False),
        "COIFT": (False, False, False),
        "COD10K-v3": (True, True, False),
        "MSD_Spleen": (False, False, True),
        "ISTD": (True, False, False),
        "SBU-shadow": (True, False, False),
        "Flare7K": (True, True, False),
        "Trans10K": (True, False, False),
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("BIG", "big"),
        ("Cod10k-V3", "cod10k"),
        ("MSD_Spleen", "msd-spleen"),
        ("msd spleen", "msd-spleen"),
        ("SBU", "sbu"),
        ("sbu-shadow", "sbu"),
        ("KVASIR-SEG", "kvasir-seg"),
        ("BraTS2021", "brats21"),
    ],
)
def test_names(name: str, key: str) -> None:
    assert find_known(name).key == key


@pytest.mark.parametrize("key", KNOWN)
def test_a_dataset_that_is_not_there_is_one_sentence(tmp_path: Path, key: str) -> None:
    known = KNOWN[key]
    with pytest.raises(InputError) as caught:
        open_dataset(key.upper(), root=tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{known.title} is not in {tmp_path / known.folder}")
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert "\n" not in sentence
    assert known.homepage in sentence
    assert known.terms in sentence
    if known.benchmark == "UncertSAM":
        assert f"napari-uncertsam prepare {key} RAW --split test --out {tmp_path}" in sentence
        assert "huggingface.co/datasets/JesseBrouw/UncertSAM" in sentence
        assert "token" in sentence
    else:
        assert known.layout in sentence
        (tmp_path / known.folder).mkdir()
        with pytest.raises(InputError, match="does not hold") as wrong:
            open_dataset(key, root=tmp_path)
        assert known.homepage in str(wrong.value)


def test_a_split_that_the_publisher_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which has only test and val"):
        open_dataset("big", root=tmp_path, split="train")


def test_the_root_of_all_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(Path("other")) == Path("other")
    with pytest.raises(InputError, match=f"BIG is not in {tmp_path}"):
        open_dataset("big")


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'cityscapes' is neither a folder nor a known dataset; known are big, coift"):
        open_dataset("cityscapes")
    with pytest.raises(InputError, match="There is no folder"):
        open_dataset(tmp_path / "nothing")
    file = tmp_path / "file.zip"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="is a file"):
        open_dataset(file)
    with pytest.raises(InputError, match="laid out neither"):
        open_dataset(tmp_path)


def test_options_that_a_layout_does_not_have(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    with pytest.raises(InputError, match="without the option 'seed'; it has every, min_area"):
        open_dataset(tmp_path, seed=3)
