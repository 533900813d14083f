import pytest
import torch
from torch.nn import functional

from gvsl.augment import draw_rotation, rotate
from gvsl.backbones import UNet3D
from gvsl.methods import METHODS
from gvsl.methods.rotation import Rotation
from gvsl.types import PairBatch


def test_each_volume_is_classified_by_its_own_rotation() -> None:
    torch.manual_seed(0)
    method = Rotation(UNet3D(width=8, levels=3))
    moving, fixed = torch.rand(2, 3, 1, 16, 16, 16)
    terms = method.training_step(PairBatch(moving, fixed, [""] * 3, [""] * 3), torch.Generator().manual_seed(4))
    turned = draw_rotation(6, torch.Generator().manual_seed(4))
    logits = method.classify(rotate(torch.cat([moving, fixed]), turned))
    assert logits.shape == (6, 10)
    torch.testing.assert_close(terms["loss"], functional.cross_entropy(logits, turned))


def test_a_crop_that_is_no_cube_is_refused_with_one_that_is() -> None:
    method = METHODS["rotation"](UNet3D(width=8, levels=3))
    with pytest.raises(ValueError, match=r"give --data\.crop \[32, 32, 32\]"):
        method.check((48, 32, 64), volumes=10)
    method.check((32, 32, 32), volumes=10)
