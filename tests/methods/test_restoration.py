import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment import draw_flips, flip
from gvsl.backbones import UNet3D
from gvsl.methods.method import both_volumes
from gvsl.methods.restoration import (
    Denoising,
    DenoisingSettings,
    Inpainting,
    InpaintingSettings,
    ModelsGenesis,
    ModelsGenesisSettings,
)
from gvsl.types import PairBatch

RESTORATIONS = [Denoising, Inpainting, ModelsGenesis]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", RESTORATIONS)
def test_both_volumes_of_each_pair_are_damaged_and_restored(
    kind: type[Denoising | Inpainting | ModelsGenesis], batch: PairBatch
) -> None:
    torch.manual_seed(0)
    method = kind(UNet3D(width=8))
    terms = method.training_step(batch, generator(3))
    damaged, whole = method.damage(both_volumes(batch), generator(3))

    assert damaged.shape == whole.shape == (4, *batch.moving.shape[1:])
    torch.testing.assert_close(terms["restoration_identity"], (damaged - whole).square().mean())
    expected = functional.mse_loss(method.restore(damaged), whole).detach()
    torch.testing.assert_close(terms["loss"].detach(), expected)
    assert terms["restoration_identity"] > 1e-3


def test_denoising_adds_noise_of_its_sigma() -> None:
    volumes = torch.full((2, 1, 40, 40, 40), 0.5)
    damaged, whole = Denoising(UNet3D(width=8), DenoisingSettings(sigma=0.2)).damage(volumes, generator())
    assert torch.equal(whole, volumes)
    assert (damaged - whole).std().item() == pytest.approx(0.2, rel=0.01)
    assert abs((damaged - whole).mean().item()) < 0.005


def test_inpainting_erases_within_its_boxes() -> None:
    volumes = torch.ones(20, 1, 24, 24, 24)
    settings = InpaintingSettings(most_boxes=1, least_side=0.5, greatest_side=0.5)
    damaged, whole = Inpainting(UNet3D(width=8), settings).damage(volumes, generator())
    assert torch.equal(whole, volumes)
    assert torch.equal((damaged == 0).flatten(1).sum(dim=1), torch.full((20,), 12**3))


def only(**rates: float) -> ModelsGenesis:
    nothing = {"shuffle_rate": 0.0, "intensity_rate": 0.0, "paint_rate": 0.0, "flip_rate": 0.0}
    return ModelsGenesis(UNet3D(width=8), ModelsGenesisSettings(**{**nothing, **rates}))


def test_models_genesis_flips_what_is_to_be_restored_too() -> None:
    volumes = torch.rand(6, 1, 12, 14, 16, generator=generator())
    damaged, whole = only(flip_rate=0.5).damage(volumes, generator(7))
    assert torch.equal(damaged, whole)
    assert torch.equal(whole, flip(volumes, draw_flips(6, 0.5, generator(7))))
    assert not torch.equal(whole, volumes)


def test_models_genesis_lets_curves_fall() -> None:
    ramp = torch.linspace(0, 1, 16).view(1, 1, 1, 1, 16).expand(400, 1, 2, 2, 16)
    damaged, _ = only(intensity_rate=1.0).damage(ramp, generator())
    steps: Tensor = damaged[:, 0, 0, 0].diff(dim=1)
    rising, falling = (steps >= 0).all(dim=1), (steps <= 0).all(dim=1)
    assert (rising | falling).all()
    assert 150 < int(falling.sum()) < 250


def test_models_genesis_shuffles_and_paints_without_touching_the_original() -> None:
    volumes = torch.rand(4, 1, 40, 40, 40, generator=generator())
    for rates in ({"shuffle_rate": 1.0}, {"paint_rate": 1.0}):
        damaged, whole = only(**rates).damage(volumes, generator())
        assert torch.equal(whole, volumes)
        assert (damaged != whole).flatten(1).any(dim=1).all()
