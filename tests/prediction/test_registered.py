"""What is measured of a registered pair."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.cases import Case
from gvsl.io import Volume
from gvsl.losses import local_similarity
from gvsl.methods import GVSL
from gvsl.methods.gvsl import GVSLSettings
from gvsl.prediction.registered import Side, ncc
from gvsl.propagation.match import Matched, centred


def test_a_field_that_leaves_the_volume_gains_nothing_by_it() -> None:
    torch.manual_seed(0)
    moving, fixed = (torch.rand(1, 1, 38, 12, 12) for _ in range(2))
    fixed[:, :, :18] = moving[:, :, 20:]  # where the field ends inside
    wide, onto = (centred(image, (40, 12, 12)) for image in (moving, fixed))
    dvf = torch.zeros(1, 3, 40, 12, 12)
    dvf[:, 0] = 20
    ready = Volume(fixed[0, 0].numpy(), np.eye(4))
    side = Side(Case("fixed", Path("fixed.nii")), ready, ready)
    method = GVSL(UNet3D(width=8, levels=2), GVSLSettings(ncc_sigma=0.0))
    assert method.settings.mask_outside
    found = ncc(method.ncc, Matched(wide, onto, dvf, torch.zeros_like(dvf)), side)
    shifted = moving[:, :, (torch.arange(38) + 20).clamp(max=37)]
    expected = [float(local_similarity(fixed, image).mean()) for image in (moving, shifted)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert 1 - float(method.ncc(wide, onto, dvf)) > found[1] + 0.2  # what the mask of the loss makes of it
