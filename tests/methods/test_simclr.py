import pytest
import torch
from torch import Tensor

from gvsl.augment import ViewSettings
from gvsl.backbones import UNet3D
from gvsl.backbones.genesis import Genesis
from gvsl.losses import nt_xent
from gvsl.methods.simclr import SimCLR, SimCLRSettings
from gvsl.methods.two_views import subject_keys, two_views
from gvsl.types import PairBatch


def test_the_loss_is_nt_xent_of_two_views_without_negatives_of_one_subject(batch: PairBatch) -> None:
    torch.manual_seed(0)
    method = SimCLR(UNet3D(width=8, levels=3))
    loss = method.training_step(batch, torch.Generator().manual_seed(1))["loss"]
    images = torch.cat([batch.moving, batch.fixed])
    first, second = method.embed(two_views(images, method.settings.views, torch.Generator().manual_seed(1))).chunk(2)
    torch.testing.assert_close(loss, nt_xent(first, second, torch.tensor([0, 1, 2, 0]), 0.1))
    assert not torch.isclose(loss, nt_xent(first, second, torch.arange(4), 0.1))


def test_another_scan_of_a_subject_is_no_negative(batch: PairBatch) -> None:
    def loss(subjects: list[str]) -> Tensor:
        torch.manual_seed(0)
        method = SimCLR(UNet3D(width=8, levels=3))
        return method.training_step(batch._replace(subjects=subjects), torch.Generator().manual_seed(1))["loss"]

    assert torch.equal(loss(["0", "1", "2", "0"]), loss(["a", "b", "c", "a"]))
    assert loss(["0", "1", "1", "0"]) < loss(["0", "1", "2", "0"])


def test_views_encoded_in_chunks_give_the_same_gradient(batch: PairBatch) -> None:
    doubled = PairBatch(batch.moving.double(), batch.fixed.double(), batch.moving_ids, batch.fixed_ids)
    gradients = []
    for chunk in (None, 3):
        torch.manual_seed(0)
        method = SimCLR(UNet3D(width=8, levels=3), SimCLRSettings(chunk=chunk)).double()
        method.training_step(doubled, torch.Generator().manual_seed(1))["loss"].backward()
        gradients.append([p.grad for p in method.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_of_one_subject_is_refused(batch: PairBatch) -> None:
    alone = PairBatch(batch.moving[:1], batch.moving[:1], ["0"], ["0"])
    with pytest.raises(ValueError, match="two subjects or more"):
        SimCLR(UNet3D(width=8, levels=3)).training_step(alone, torch.Generator().manual_seed(0))


def test_ids_make_numbers_that_any_process_agrees_on() -> None:
    keys = subject_keys(["a", "b", "a"], torch.device("cpu"))
    assert keys[0] == keys[2] != keys[1]
    assert keys.min() >= 0


@pytest.mark.parametrize("settings", [SimCLRSettings(temperature=0), SimCLRSettings(views=ViewSettings(largest=2))])
def test_settings_that_make_no_sense_are_refused(settings: SimCLRSettings) -> None:
    with pytest.raises(ValueError, match="give"):
        SimCLR(UNet3D(width=8, levels=3), settings)


def test_chunks_of_a_backbone_that_normalises_over_the_batch_are_refused() -> None:
    method = SimCLR(Genesis(width=8, levels=3), SimCLRSettings(chunk=3))
    with pytest.raises(ValueError, match=r"which chunks would split: leave out pretext\.chunk"):
        method.check((16, 16, 16), 8)
    SimCLR(UNet3D(width=8, levels=3), SimCLRSettings(chunk=3)).check((16, 16, 16), 8)
