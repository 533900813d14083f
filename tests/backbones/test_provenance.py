from pathlib import Path

import pytest

from gvsl.backbones import UNet3D
from gvsl.backbones.provenance import image_hashes
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS

CONTENTS = ["b" * 64, "0a" * 32, "b" * 64]


def save(folder: Path, images: frozenset[str] | None) -> Path:
    return save_weights(
        folder, UNet3D(width=8, levels=2), method="x", preprocessing=PRESETS["ct"], provenance={}, learnt_from=images
    )


def test_weights_carry_the_hashes_of_their_training_images(tmp_path: Path) -> None:
    images = image_hashes(CONTENTS)
    assert images == frozenset({"b" * 16, "0a" * 8})
    place = save(tmp_path, images)
    assert (place / "learnt_from.txt").read_bytes() == b"0a0a0a0a0a0a0a0a\nbbbbbbbbbbbbbbbb\n"
    assert load_backbone(tmp_path).learnt_from == images
    save(tmp_path / "random", frozenset())
    assert load_backbone(tmp_path / "random").learnt_from == frozenset()


def test_what_is_not_known_is_not_written(tmp_path: Path) -> None:
    assert image_hashes([*CONTENTS, ""]) is None  # a case of a store of before there were hashes
    place = save(tmp_path, None)
    assert not (place / "learnt_from.txt").exists()
    assert load_backbone(tmp_path).learnt_from is None


@pytest.mark.parametrize("content", [b"0a0a\n", b"0a0a0a0a0a0a0a0a\n\n", b"0A0A0A0A0A0A0A0A\n", b"\xff\n"])
def test_a_broken_list_is_one_line(tmp_path: Path, content: bytes) -> None:
    (save(tmp_path, frozenset({"0a" * 8})) / "learnt_from.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"learnt_from\.txt .*copy it from the run again") as caught:
        load_backbone(tmp_path)
    assert "\n" not in str(caught.value)
