from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment import SpatialSettings
from gvsl.backbones import UNet3D
from gvsl.methods.restoration import (
    Denoising,
    DenoisingSettings,
    Inpainting,
    InpaintingSettings,
    ModelsGenesis,
    ModelsGenesisSettings,
    Restoration,
)
from gvsl.types import PairBatch

NOTHING = ModelsGenesisSettings(flip_rate=0, shuffle_rate=0, intensity_rate=0, paint_rate=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 40) -> Tensor:
    """Smooth volumes, in which noise and shuffling show."""
    coarse = torch.rand(count, 1, 3, 3, 3, generator=generator(1))
    return functional.interpolate(coarse, size=(24, 24, 24), mode="trilinear")


def genesis(**changes: float) -> ModelsGenesis:
    return ModelsGenesis(UNet3D(width=8, levels=3), replace(NOTHING, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("factory", [Denoising, Inpainting, ModelsGenesis])
def test_the_loss_is_the_error_of_all_volumes_beside_that_of_the_damage(
    factory: type[Restoration], batch: PairBatch
) -> None:
    torch.manual_seed(0)
    method = factory(UNet3D(width=8, levels=3))
    terms = method.training_step(batch, generator(3))
    damaged, original = method.damage(torch.cat([batch.moving, batch.fixed]), generator(3))
    assert len(damaged) == 4
    torch.testing.assert_close(terms["loss"], functional.mse_loss(method.restore(damaged), original))
    torch.testing.assert_close(terms["restoration_identity"], functional.mse_loss(damaged, original))
    assert terms["restoration_identity"] > 1e-4


@pytest.mark.parametrize("factory", [Denoising, Inpainting, ModelsGenesis])
def test_spatial_augmentation_moves_what_is_restored_in_training_alone(
    factory: type[Restoration], batch: PairBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method, seen = factory(UNet3D(width=8, levels=3)), list[Tensor]()
    damage = type(method).damage

    def look(self: Restoration, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(images)
        return damage(self, images, generator)

    monkeypatch.setattr(factory, "damage", look)
    volumes = torch.cat([batch.moving, batch.fixed])
    method.training_step(batch, generator(3))
    assert torch.equal(seen.pop(), volumes)
    method.settings = replace(method.settings, spatial=SpatialSettings())
    method.training_step(batch, generator(3))
    moves = seen.pop() - volumes
    assert moves.flatten(1).abs().amax(1).min() > 0.05
    assert len({float(move.abs().sum()) for move in moves}) == len(volumes)  # a draw for each
    method.held_out(batch.moving, generator(3))
    assert torch.equal(torch.cat(seen), batch.moving)


def test_noise_is_as_strong_as_it_says() -> None:
    damaged, original = Denoising(UNet3D(width=8, levels=3), DenoisingSettings(sigma=0.2)).damage(images(), generator())
    assert torch.equal(original, images())
    assert (damaged - original).std().item() == pytest.approx(0.2, rel=0.02)


def test_up_to_five_boxes_are_erased_and_the_rest_stays() -> None:
    damaged, original = Inpainting(UNet3D(width=8, levels=3)).damage(images(), generator())
    shares = (damaged != original).float().mean(dim=(1, 2, 3, 4))
    assert shares.min() >= (1 / 6) ** 3 * 0.99
    assert shares.max() <= 5 / 27
    one = Inpainting(UNet3D(width=8, levels=3), InpaintingSettings(most_boxes=1)).damage(images(), generator())[0]
    assert (one != original).float().mean() < shares.mean() / 2


def test_without_any_transform_nothing_is_damaged() -> None:
    damaged, original = genesis().damage(images(), generator())
    assert torch.equal(damaged, images()) and torch.equal(original, images())


def test_a_flip_changes_what_is_restored_too() -> None:
    damaged, original = genesis(flip_rate=1).damage(images(), generator())
    assert torch.equal(damaged, original)
    assert all(not torch.equal(one, other) for one, other in zip(original, images(), strict=True))


def test_painting_erases_boxes_or_all_but_boxes() -> None:
    inner, outer = (
        (lambda pair: (pair[0] != pair[1]).float().mean(dim=(1, 2, 3, 4)))(
            genesis(paint_rate=1, inner_share=share).damage(images(), generator())
        )
        for share in (1.0, 0.0)
    )
    assert inner.max() <= 5 / 27
    assert outer.max() <= 1 - (3 / 7) ** 3 + 0.02
    assert outer.mean() > 2 * inner.mean()
    mixed, original = genesis(paint_rate=0.5, inner_share=0.2).damage(images(200), generator())
    painted = (mixed != original).flatten(1).any(dim=1).float().mean()
    assert painted.item() == pytest.approx(0.5, abs=0.1)


def test_shuffling_moves_voxels_and_bending_changes_them() -> None:
    shuffled, original = genesis(shuffle_rate=1).damage(images(), generator())
    assert not torch.equal(shuffled, original)
    assert torch.equal(shuffled.flatten(1).sort().values, original.flatten(1).sort().values)
    bent, original = genesis(intensity_rate=1).damage(images(), generator())
    falls = [
        torch.corrcoef(torch.stack([b.flatten(), o.flatten()]))[0, 1] < 0 for b, o in zip(bent, original, strict=True)
    ]
    assert 10 < sum(falls) < 30


@pytest.mark.parametrize(
    ("factory", "settings"),
    [
        (Denoising, DenoisingSettings(sigma=0)),
        (Inpainting, InpaintingSettings(smallest=0.5, largest=0.4)),
        (Inpainting, InpaintingSettings(most_boxes=0)),
        (ModelsGenesis, ModelsGenesisSettings(outer_largest=1.5)),
    ],
)
def test_damage_that_makes_no_sense_is_refused(factory: type[Restoration], settings: object) -> None:
    with pytest.raises(ValueError, match="give"):
        factory(UNet3D(width=8, levels=3), settings)  # type: ignore[call-arg]
