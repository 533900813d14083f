import pytest
import torch

from gvsl.augment import ViewSettings
from gvsl.backbones import UNet3D
from gvsl.losses import negative_cosine
from gvsl.methods.encoder import in_float32
from gvsl.methods.simsiam import SimSiam, SimSiamSettings
from gvsl.methods.two_views import two_views
from gvsl.types import PairBatch


def test_each_view_predicts_the_other_and_the_predicted_one_gets_no_gradient(batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = SimSiam(UNet3D(width=8, levels=3))
    loss = method.training_step(batch, torch.Generator().manual_seed(1))["loss"]
    found = torch.autograd.grad(loss, list(method.projector.parameters()))
    views = two_views(torch.cat([batch.moving, batch.fixed]), method.settings.views, torch.Generator().manual_seed(1))
    embedded = method.embed(views)
    fixed = embedded.detach()
    predicted = in_float32(method.predictor, embedded)
    expected = (negative_cosine(predicted[:4], fixed[4:]) + negative_cosine(predicted[4:], fixed[:4])) / 2
    torch.testing.assert_close(loss, expected)
    for one, other in zip(found, torch.autograd.grad(expected, list(method.projector.parameters())), strict=True):
        torch.testing.assert_close(one, other)


def test_views_that_cannot_be_made_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="least_overlap"):
        SimSiam(UNet3D(width=8, levels=3), SimSiamSettings(views=ViewSettings(least_overlap=0.9)))
