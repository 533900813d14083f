from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings, change_appearance, draw_appearance, draw_spatial
from gvsl.backbones import UNet3D
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.geometry import Fusion, gaussian_smooth, inside, nonpositive_jacobian_fraction, warp
from gvsl.heads import DeformableHead, PooledAffineHead
from gvsl.losses import local_ncc_loss, smoothness_loss
from gvsl.methods import GVSL, GVSLSettings
from gvsl.methods.restoration import BoxSettings
from gvsl.settings.methods import NO_AFFINE
from gvsl.types import LabelledPair, PairBatch

FUSIONS: list[Fusion] = ["compose", "paper"]
PAPER = GVSLSettings(
    affine_head="pooled",
    deformable_head="direct",
    symmetric=False,
    affine_ncc_weight=0,
    smoothness_weight=1,
    restoration_weight=1,
    ncc_sigma=0,
    damage="appearance",
    independent_poses=False,
)
"""The heads and the step of the paper."""
AS_THEY_ARE = replace(PAPER, appearance=AppearanceSettings(0, 0, 0), spatial=SpatialSettings(rate=0))
"""Without augmentation."""
UNTOUCHED = GVSLSettings(damage="appearance", appearance=AppearanceSettings(0, 0, 0), spatial=SpatialSettings(rate=0))
"""The default heads and step, without augmentation."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(settings: GVSLSettings | None = None, moving: bool = False) -> GVSL:
    """A method from its initialisation, or with last layers that do move voxels."""
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=8, levels=4), settings)
    if moving and method.matching is not None:
        nn.init.normal_(direct_head(method).field.weight, std=0.03)
        if method.matching.affine is not None:
            for layer in linear_layers(method):
                nn.init.normal_(layer.weight, std=0.1)
    return method


def direct_head(method: GVSL) -> DeformableHead:
    assert method.matching is not None
    assert isinstance(method.matching.deformable, DeformableHead)
    return method.matching.deformable


def linear_layers(method: GVSL) -> list[nn.Linear]:
    assert method.matching is not None
    head = method.matching.affine
    assert isinstance(head, PooledAffineHead)
    return [head.rotation, head.translation, head.scale, head.shear]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.bf16)])
def test_each_of_the_fifteen_affine_outputs_gets_a_gradient(fusion: Fusion, precision: str, batch: PairBatch) -> None:
    method = make(replace(PAPER, fusion=fusion))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        method.training_step(batch, generator())["loss"].backward()
    outputs = 0
    for layer in linear_layers(method):
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        assert layer.weight.grad.isfinite().all()
        assert (layer.weight.grad != 0).any(dim=1).all()
        assert layer.bias.grad.isfinite().all()
        assert (layer.bias.grad != 0).all()
        outputs += len(layer.bias)
    assert outputs == 15


@pytest.mark.parametrize("fusion", FUSIONS)
def test_voxels_move_by_less_than_a_twentieth_at_the_start(fusion: Fusion, batch: PairBatch) -> None:
    matching = make(replace(PAPER, fusion=fusion)).match(batch.moving, batch.fixed)
    for field in matching:
        assert 0 < field.abs().max() < 0.05


def test_a_step_logs_what_the_issue_names(batch: PairBatch) -> None:
    terms = make().training_step(batch, generator())
    assert list(terms) == ["loss", "ncc", "smoothness", "ncc_affine", "ncc_identity", "folded", "restoration"]
    assert 0 <= terms["folded"] <= 1
    # Nothing has moved yet.
    assert terms["ncc"].item() == pytest.approx(terms["ncc_identity"].item(), abs=0.02)
    assert terms["ncc_affine"].item() == pytest.approx(terms["ncc_identity"].item(), abs=0.02)


@pytest.mark.parametrize("smooth_on", ["dvf", "local"])
@pytest.mark.parametrize("mask", [True, False])
def test_terms_are_those_of_algorithm_1(smooth_on: Literal["dvf", "local"], mask: bool, batch: PairBatch) -> None:
    settings = replace(
        AS_THEY_ARE,
        smooth_on=smooth_on,
        mask_outside=mask,
        ncc_weight=2.0,
        smoothness_weight=3.0,
        restoration_weight=5.0,
    )
    method = make(settings, moving=True)
    terms = method.training_step(batch, generator())
    matching = method.match(batch.moving, batch.fixed)
    assert matching.affine.abs().max() > 0.3

    def ncc(field: Tensor) -> Tensor:
        seen = inside(field) if mask else None
        return local_ncc_loss(batch.fixed, warp(batch.moving, field), window=9, eps=1e-3, mask=seen)

    expected = {
        "ncc": ncc(matching.dvf),
        "ncc_affine": ncc(matching.affine),
        "ncc_identity": local_ncc_loss(batch.fixed, batch.moving, window=9, eps=1e-3),
        "smoothness": smoothness_loss(matching.dvf if smooth_on == "dvf" else matching.local),
        "folded": nonpositive_jacobian_fraction(matching.dvf),
        "restoration": functional.mse_loss(method.restore(batch.moving), batch.moving),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach(), rtol=1e-3, atol=1e-5, msg=name)
    total = 2 * expected["ncc"] + 3 * expected["smoothness"] + 5 * expected["restoration"]
    torch.testing.assert_close(terms["loss"], total, rtol=1e-3, atol=1e-5)


def test_the_damaged_volume_is_seen_and_the_undamaged_one_restored_and_matched(batch: PairBatch) -> None:
    settings = replace(AS_THEY_ARE, appearance=AppearanceSettings(1, 1, 1))
    method = make(settings)
    terms = method.training_step(batch, generator(4))
    damaged = change_appearance(batch.moving, draw_appearance(2, (32, 16, 32), settings.appearance, generator(4)))
    expected = functional.mse_loss(method.restore(damaged), batch.moving)
    torch.testing.assert_close(terms["restoration"], expected.detach(), rtol=1e-3, atol=1e-5)
    undamaged = local_ncc_loss(batch.fixed, batch.moving, eps=1e-3)
    torch.testing.assert_close(terms["ncc_identity"], undamaged)


@pytest.mark.parametrize("mask", [True, False])
def test_one_spatial_draw_is_shared_by_a_pair_and_what_was_never_scanned_is_left_out(
    mask: bool, batch: PairBatch
) -> None:
    terms = make(replace(PAPER, mask_outside=mask)).training_step(batch, generator(4))
    dvf = draw_spatial(2, (32, 16, 32), SpatialSettings(), generator(4))
    moving, fixed = (warp(image, dvf, padding="border") for image in (batch.moving, batch.fixed))
    expected = local_ncc_loss(fixed, moving, eps=1e-3, mask=inside(dvf) if mask else None)
    torch.testing.assert_close(terms["ncc_identity"], expected)


def test_a_batch_is_what_its_pairs_are_alone(batch: PairBatch) -> None:
    method = make(AS_THEY_ARE, moving=True)
    alone = [
        method.training_step(PairBatch(batch.moving[[i]], batch.fixed[[i]], [""], [""]), generator()) for i in range(2)
    ]
    for name, value in method.training_step(batch, generator()).items():
        expected = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5, msg=name)


def test_volumes_that_are_no_multiple_of_16_pass_through(batch: PairBatch) -> None:
    odd = PairBatch(batch.moving[..., :21, :13, :18], batch.fixed[..., :21, :13, :18], [""] * 2, [""] * 2)
    terms = make().training_step(odd, generator())
    terms["loss"].backward()
    assert terms["loss"].isfinite()
    assert make().match(odd.moving, odd.fixed).dvf.shape == (2, 3, 21, 13, 18)


def test_without_matching_it_restores() -> None:
    method = make(GVSLSettings(matching=False))
    image = torch.rand(1, 1, 16, 16, 16)
    assert method.matching is None
    assert set(method.parts()) == {"backbone", "restoration"}
    assert set(method.training_step(PairBatch(image, image, [""], [""]), generator())) == {"loss", "restoration"}
    assert method.restore(image).shape == image.shape
    with pytest.raises(ValueError, match="without matching"):
        method.match(image, image)


def test_without_restoration_it_matches() -> None:
    method = make(GVSLSettings(restoration=False))
    image = torch.rand(1, 1, 16, 16, 16)
    assert method.restoration is None
    assert set(method.parts()) == {"backbone", "affine", "deformable"}
    terms = method.training_step(PairBatch(image, image, [""], [""]), generator())
    assert "restoration" not in terms
    expected = terms["ncc"] + terms["ncc_affine"] + 2 * terms["smoothness"]
    torch.testing.assert_close(terms["loss"].detach(), expected)
    with pytest.raises(ValueError, match="without restoration"):
        method.restore(image)


def test_without_the_affine_head_the_affine_field_is_zero() -> None:
    method = make(replace(AS_THEY_ARE, affine=False))
    one, other = torch.rand(2, 1, 1, 16, 16, 16, generator=generator())
    assert set(method.parts()) == {"backbone", "restoration", "deformable"}
    terms = method.training_step(PairBatch(one, other, [""], [""]), generator())
    torch.testing.assert_close(terms["ncc_affine"], terms["ncc_identity"])


def test_with_its_gradient_cut_off_the_affine_head_is_used_and_not_trained(batch: PairBatch) -> None:
    method = make(replace(AS_THEY_ARE, affine_gradient=False), moving=True)
    assert method.matching is not None
    assert method.match(batch.moving, batch.fixed).affine.abs().max() > 0.5
    method.training_step(batch, generator())["loss"].backward()
    assert all(parameter.grad is None for layer in linear_layers(method) for parameter in layer.parameters())
    assert direct_head(method).field.weight.grad is not None
    assert set(method.parts()) == {"backbone", "restoration", "deformable"}


def test_with_nothing_to_learn_it_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        make(GVSLSettings(matching=False, restoration=False))


@pytest.mark.parametrize("settings", [pytest.param(AS_THEY_ARE, marks=pytest.mark.slow), UNTOUCHED])
def test_it_learns_to_match_a_pair(settings: GVSLSettings, batch: PairBatch) -> None:
    """From the initialisation, by its own loss: both stages help, and nothing folds."""
    pair = PairBatch(batch.moving[:1, ..., :16], batch.fixed[:1, ..., :16], ["0"], ["2"])
    method = make(settings)
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3 if settings == AS_THEY_ARE else 1e-3)
    for _ in range(25 if settings == AS_THEY_ARE else 13):
        optimiser.zero_grad()
        terms = method.training_step(pair, generator())
        terms["loss"].backward()
        optimiser.step()
    assert terms["ncc_affine"] < terms["ncc_identity"] - 0.02
    assert terms["folded"] < 0.01
    if settings == AS_THEY_ARE:  # key points alone can explain a single pair
        assert terms["ncc"] < terms["ncc_affine"] - 0.02
    else:
        assert terms["ncc"] < terms["ncc_identity"] - 0.05


def test_both_volumes_are_damaged_restored_and_matched_both_ways(batch: PairBatch) -> None:
    method = make(replace(UNTOUCHED, damage="boxes"))
    terms = method.training_step(batch, generator(4))
    volumes = torch.cat([batch.moving, batch.fixed])
    damaged, _ = method.damage(volumes, generator(4))
    assert ((damaged != volumes).flatten(1).any(dim=1)).all()
    torch.testing.assert_close(
        terms["restoration"], functional.mse_loss(method.restore(damaged), volumes).detach(), rtol=1e-3, atol=1e-6
    )
    both_ways = [local_ncc_loss(*(gaussian_smooth(v, 1) for v in pair), eps=1e-3) for pair in (batch[:2], batch[1::-1])]
    torch.testing.assert_close(terms["ncc_identity"], torch.stack(both_ways).mean(), rtol=1e-4, atol=1e-5)


def test_poses_of_the_two_volumes_are_independent_and_each_masks_its_own(batch: PairBatch) -> None:
    terms = make(GVSLSettings(symmetric=False)).training_step(batch, generator(4))
    dvf = draw_spatial(4, (32, 16, 32), SpatialSettings(), generator(4))
    moving, fixed = warp(torch.cat([batch.moving, batch.fixed]), dvf, padding="border").chunk(2)
    expected = local_ncc_loss(gaussian_smooth(fixed, 1), gaussian_smooth(moving, 1), eps=1e-3, mask=inside(dvf[2:]))
    torch.testing.assert_close(terms["ncc_identity"], expected)


def test_the_affine_head_depends_on_the_pair_from_the_start(batch: PairBatch) -> None:
    """Where the pooled head's maps are the same to a thousandth of a voxel."""
    for head, least, most in (("keypoints", 0.01, 5.0), ("pooled", 0.0, 0.01)):
        method = make(replace(UNTOUCHED, affine_head=head))  # type: ignore[arg-type]
        affine = method.match(batch.moving, batch.fixed).affine
        assert least <= (affine[0] - affine[1]).norm(dim=0).mean() <= most


def test_the_affine_loss_trains_the_encoder_through_the_key_points(batch: PairBatch) -> None:
    method = make(replace(UNTOUCHED, ncc_weight=0, smoothness_weight=0, restoration_weight=0))
    method.training_step(batch, generator())["loss"].backward()
    for name, part in method.parts().items():
        reached = any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        assert reached == (name in ("backbone", "affine")), name


def test_blur_does_not_pay_once_both_images_are_smoothed(batch: PairBatch) -> None:
    """Half a voxel of shift looks better than none by the plain NCC, and not by the smoothed one."""
    shift = torch.full((2, 3, 32, 16, 32), 0.25)

    def gain(sigma: float) -> float:
        method = make(replace(UNTOUCHED, ncc_sigma=sigma))
        return float(method.ncc(batch.moving, batch.fixed, None) - method.ncc(batch.moving, batch.fixed, shift))

    assert gain(1.0) < gain(0.0)


@pytest.mark.parametrize("start", ["field", "affine", "none"])
def test_refinement_starts_where_it_is_told_to_and_improves_the_match(
    start: Literal["field", "affine", "none"], batch: PairBatch
) -> None:
    method = make(UNTOUCHED)
    with torch.no_grad():
        before, after = (method.match(batch.moving, batch.fixed, refine=steps, start=start) for steps in (0, 12))
    assert torch.equal(before.affine, after.affine)
    assert method.ncc(batch.moving, batch.fixed, after.dvf) < method.ncc(batch.moving, batch.fixed, before.dvf) - 0.05


def test_a_refinement_from_an_affine_part_that_there_is_not_is_refused(batch: PairBatch) -> None:
    method = make(NO_AFFINE)
    with torch.no_grad():
        assert not method.match(batch.moving, batch.fixed).affine.any()  # which is not refined
        with pytest.raises(UserError, match="this method has no affine head: give start field or none"):
            method.match(batch.moving, batch.fixed, refine=1)
        assert method.match(batch.moving, batch.fixed, refine=1, start="field").dvf.any()


def test_boxes_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="smallest <= largest"):
        make(GVSLSettings(boxes=BoxSettings(smallest=0.5, largest=0.2)))


@pytest.mark.parametrize(("crop", "levels", "fix"), [((16, 16, 16), 5, 3), ((64, 12, 64), 5, 2), ((32, 48, 32), 6, 4)])
def test_a_crop_that_leaves_key_points_one_voxel_is_refused_with_a_number_that_does(
    crop: tuple[int, int, int], levels: int, fix: int
) -> None:
    method = GVSL(UNet3D(width=8, levels=levels))
    shape = " x ".join(map(str, crop))
    with pytest.raises(ValueError, match=rf"crop of {shape} .* last of {levels} levels.* --backbone.levels {fix}$"):
        method.check(crop, volumes=4)
    GVSL(UNet3D(width=8, levels=fix)).check(crop, volumes=4)
    for other in (PAPER, GVSLSettings(affine=False), GVSLSettings(matching=False)):
        GVSL(UNet3D(width=8, levels=levels), other).check(crop, volumes=4)


def test_a_crop_too_small_for_any_number_of_levels_is_refused_for_itself() -> None:
    with pytest.raises(ValueError, match=r"give a larger --data\.crop$"):
        GVSL(UNet3D(width=8, levels=2)).check((2, 16, 16), volumes=4)


def test_labels_train_the_field_that_carries_them(batch: PairBatch) -> None:
    method = make(replace(UNTOUCHED, labels=("a", "b")))
    image = batch.moving[:1]
    classes = torch.zeros(1, 1, *image.shape[2:], dtype=torch.long)
    classes[:, :, 8:16, 4:12, 8:20] = 1
    one = PairBatch(batch.moving[:1], batch.fixed[:1], ["0"], ["2"])
    same, moved = (LabelledPair(image, image, classes, classes.roll(shift, 2), 2) for shift in (0, 4))
    found = [method.training_step(one._replace(labelled=pair), generator()) for pair in (None, same, moved)]
    assert "carried_labels" not in found[0]
    assert found[1]["carried_labels"] < 0.2  # the field of a volume with itself is small
    assert found[2]["carried_labels"] == pytest.approx(0.5, abs=0.2)  # half of the structure lies elsewhere
    for terms in found[1:]:
        torch.testing.assert_close(terms["loss"] - found[0]["loss"], terms["carried_labels"])
    method.zero_grad()
    found[2]["loss"].backward()
    assert method.matching is not None
    gradients = [value.grad for value in method.matching.deformable.parameters() if value.grad is not None]
    method.zero_grad()
    found[0]["loss"].backward()
    without = [value.grad for value in method.matching.deformable.parameters() if value.grad is not None]
    assert any(not torch.equal(mine, other) for mine, other in zip(gradients, without, strict=True))


def test_voxels_of_no_known_class_count_for_no_label_term(batch: PairBatch) -> None:
    method = make(replace(UNTOUCHED, labels=("a", "b")))
    image, one = batch.moving[:1], PairBatch(batch.moving[:1], batch.fixed[:1], ["0"], ["2"])
    classes = torch.zeros(1, 1, *image.shape[2:], dtype=torch.long)
    classes[:, :, 8:16, 4:12, 8:20] = 1
    wrong = classes.clone()
    wrong[:, :, 20:] = 1
    ignored = torch.where(wrong != classes, IGNORED, classes)
    losses = [
        method.training_step(one._replace(labelled=LabelledPair(image, image, *pair, 2)), generator())[
            "carried_labels"
        ].item()
        for pair in ((classes, classes), (classes, wrong), (classes, ignored), (ignored, classes))
    ]
    assert losses[1] > losses[0] + 0.3
    assert losses[2:] == pytest.approx([losses[0]] * 2, abs=0.02)


def test_labels_need_matching_and_a_weight() -> None:
    with pytest.raises(ValueError, match="matching, which is switched off"):
        make(GVSLSettings(matching=False, labels=("a", "b")))
    with pytest.raises(ValueError, match="labels_weight is 0"):
        make(GVSLSettings(labels=("a", "b"), labels_weight=0))
