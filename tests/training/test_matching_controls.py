"""The controls of matching notice faults that an NCC loss alone rewards, and pass a field that matches."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import UNet3D
from gvsl.geometry import affine_dvf, affine_matrix, warp
from gvsl.heads import Matching
from gvsl.losses import local_ncc_loss
from gvsl.methods import GVSL
from gvsl.records import RunRecord
from gvsl.report.matching import MatchingVerdict, matching_verdict
from gvsl.report.runs import Run
from gvsl.training.matched_pairs import MatchedPair, pair_metrics
from gvsl.training.matching_controls import blur_without_moving, control_metrics, donors

SHAPE = (24, 20, 28)
SUBJECTS = 6


class Subjects:
    """Subjects of one anatomy: each is an atlas sampled at A p + u(p), A linear and u smooth, with noise of its own."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        atlas = _smooth_noise((1, 1, *SHAPE), 3, generator)
        labels = (atlas > 0.8).long() + (atlas < -0.8).long() * 2
        linear = torch.eye(4).repeat(SUBJECTS, 1, 1)
        linear[:, :3, :3] += 0.05 * torch.randn(SUBJECTS, 3, 3, generator=generator)
        linear[:, :3, 3] = 1.5 * torch.randn(SUBJECTS, 3, generator=generator)
        self.maps = linear
        self.affine = affine_dvf(linear, SHAPE)
        self.local = 0.8 * _smooth_noise((SUBJECTS, 3, *SHAPE), 4, generator)
        noise = 0.04 * torch.randn(SUBJECTS, 1, *SHAPE, generator=generator)
        every = self.affine + self.local
        images = warp((0.5 + 0.15 * atlas).expand(SUBJECTS, -1, -1, -1, -1), every, padding="border")
        self.images = (images + noise).clamp(0, 1)
        self.labels = warp(labels.float().expand(SUBJECTS, -1, -1, -1, -1), every, mode="nearest").long()

    @cache  # noqa: B019 - there is one instance
    def true_matching(self, moving: int, fixed: int) -> Matching:
        """The affine map between two subjects, and the field that joins them, to a residual of the local fields."""
        matrix = self.maps[moving].inverse() @ self.maps[fixed]
        affine = affine_dvf(matrix[None], SHAPE)
        inverse = affine_dvf(self.maps[moving].inverse()[None], SHAPE)
        # The moving voxel q with A q + u(q) = the fixed voxel's place in the atlas, by fixed-point iteration.
        target = self.affine[fixed : fixed + 1] + self.local[fixed : fixed + 1]
        dvf = affine
        for _ in range(8):
            aim = target - warp(self.local[moving : moving + 1], dvf, padding="border")
            dvf = aim + _at(inverse, aim, self.maps[moving].inverse())
        return Matching(dvf, affine, dvf - affine)


def _at(inverse: Tensor, offset: Tensor, matrix: Tensor) -> Tensor:
    """The displacement of an affine map at displaced positions: linear, so A^-1 (p + o) - (p + o)."""
    linear = matrix[:3, :3] - torch.eye(3)
    return inverse + torch.einsum("ij,bjdhw->bidhw", linear, offset)


def _smooth_noise(shape: tuple[int, ...], scale: int, generator: torch.Generator) -> Tensor:
    """Noise of unit standard deviation with features of some voxels."""
    coarse = [-(-side // scale) + 2 for side in shape[2:]]
    noise = torch.randn(*shape[:2], *coarse, generator=generator)
    fine = functional.interpolate(noise, size=shape[2:], mode="trilinear", align_corners=True)
    return fine / fine.std()


@cache
def subjects() -> Subjects:
    return Subjects()


Fields = Callable[[int, int], Matching]


@cache
def rows_of(fields: Fields) -> list[dict[str, float]]:
    """The metrics of pairs in a chain, with the losses of a real method and planted fields."""
    found, ncc = subjects(), GVSL(UNet3D(width=8, levels=2)).ncc
    order = [((index + 1) % SUBJECTS, index) for index in range(SUBJECTS)]
    pairs = [
        MatchedPair(
            f"{moving}",
            f"{fixed}",
            found.images[moving : moving + 1],
            found.images[fixed : fixed + 1],
            fields(moving, fixed),
            found.labels[moving : moving + 1],
            found.labels[fixed : fixed + 1],
            3,
        )
        for moving, fixed in order
    ]
    controls = control_metrics(pairs, ncc)
    return [pair_metrics(pair, ncc) | row for pair, row in zip(pairs, controls, strict=True)]


def judge(fields: Fields) -> MatchingVerdict:
    """The verdict of the report on planted fields."""
    rows = [{"id": str(index), **row} for index, row in enumerate(rows_of(fields))]
    record = RunRecord("pretrain", "run", 0, {"method": "gvsl"}, {"name": "s", "hash": "h"}, "finished", cases=rows)
    verdict = matching_verdict(Run(Path("run"), "run", "s", record, {}, [], []))
    assert verdict is not None
    return verdict


def true_fields(moving: int, fixed: int) -> Matching:
    return subjects().true_matching(moving, fixed)


def constant_map(moving: int, fixed: int) -> Matching:
    """The field that is right for one pair, for every pair."""
    return subjects().true_matching(3, 2)


def shuffled_pairs(moving: int, fixed: int) -> Matching:
    """Right fields, each given to the pair three further on."""
    return subjects().true_matching((moving + 3) % SUBJECTS, (fixed + 3) % SUBJECTS)


def blur_alone(moving: int, fixed: int) -> Matching:
    """Half a voxel along each axis, in a direction of the pair's own: interpolation averages eight voxels."""
    generator = torch.Generator().manual_seed(fixed)
    signs = torch.randint(2, (1, 3, 1, 1, 1), generator=generator) * 2.0 - 1
    field = (0.5 * signs).expand(1, 3, *SHAPE).clone()
    return Matching(field, field, torch.zeros_like(field))


def same_affine(moving: int, fixed: int) -> Matching:
    """A right field whose affine part is that of one pair, up to a thousandth of a voxel."""
    own = subjects().true_matching(moving, fixed)
    affine = subjects().true_matching(3, 2).affine + 0.001 * own.affine
    return Matching(own.dvf, affine, own.dvf - affine)


def test_a_true_field_matches_and_its_affine_part_depends_on_the_pair() -> None:
    verdict = judge(true_fields)
    assert verdict.field.shown
    assert verdict.affine is not None
    assert verdict.affine.shown
    rows = rows_of(true_fields)

    def mean(name: str) -> float:
        return fmean(row[name] for row in rows)

    assert mean("smooth_ncc") < mean("smooth_ncc_affine") < mean("smooth_ncc_blurred")
    assert mean("dice_after") > mean("dice_affine") > mean("dice_mean_field") > mean("dice_swapped")
    assert mean("affine_difference") > 1


@pytest.mark.parametrize("fields", [constant_map, shuffled_pairs])
def test_fields_that_do_not_depend_on_their_pair_do_not_match(fields: Fields) -> None:
    verdict = judge(fields)
    assert not verdict.field.shown
    assert verdict.affine is not None
    assert not verdict.affine.shown


def test_blur_alone_does_not_match_although_it_lowers_a_plain_loss() -> None:
    fixed, moving = subjects().images, subjects().images.roll(-1, dims=0)
    assert local_ncc_loss(fixed, blur_without_moving(moving, torch.full((SUBJECTS, 3, *SHAPE), 0.5))) < (
        local_ncc_loss(fixed, moving) - 0.01
    )
    verdict = judge(blur_alone)
    assert not verdict.field.over_blurred.shown
    assert not verdict.field.shown


def test_an_affine_part_of_one_map_for_all_is_noticed_beside_a_field_that_matches() -> None:
    verdict = judge(same_affine)
    assert verdict.field.shown
    assert verdict.affine is not None
    assert not verdict.affine.shown


def test_a_constant_map_gains_nothing_over_itself() -> None:
    rows = rows_of(constant_map)
    for row in rows:
        assert row["smooth_ncc_swapped"] == pytest.approx(row["smooth_ncc"], abs=1e-7)
        assert row["smooth_ncc_mean_field"] == pytest.approx(row["smooth_ncc"], abs=1e-5)
        assert row["dice_swapped"] == pytest.approx(row["dice_after"])
        assert row["affine_difference"] == 0
        assert row["affine_displacement"] > 0


def test_the_values_of_a_known_affine_part_are_measured() -> None:
    angles, shift, factors = torch.tensor([[0.1, 0.0, -0.05]]), torch.tensor([[1.5, 0.0, -3.0]]), torch.ones(1, 3)
    matrix = affine_matrix(angles, shift, factors * torch.tensor([1.2, 1.0, 0.9]), torch.zeros(1, 6))
    affine = affine_dvf(matrix, SHAPE)
    image = subjects().images[:1]
    pair = MatchedPair("a", "b", image, image, Matching(affine, affine, torch.zeros_like(affine)))
    row = pair_metrics(pair, GVSL(UNet3D(width=8, levels=2)).ncc)
    assert row["affine_rotation"] == pytest.approx(math.degrees(0.15) / 3, abs=1e-3)
    assert row["affine_translation"] == pytest.approx(1.5, abs=1e-3)
    assert row["affine_scale"] == pytest.approx(0.1, abs=1e-4)
    assert row["affine_shear"] == pytest.approx(0, abs=1e-4)
    flat = affine_dvf(torch.diag(torch.tensor([1.0, 0, 1, 1]))[None], SHAPE)
    ncc = GVSL(UNet3D(width=8, levels=2)).ncc
    row = pair_metrics(replace(pair, matching=Matching(flat, flat, torch.zeros_like(flat))), ncc)
    assert "affine_displacement" in row and "affine_rotation" not in row


@pytest.mark.parametrize("scans", [1, 2, 3])
@pytest.mark.parametrize("count", range(2, 12))
def test_donors_are_others_and_share_no_subject_where_there_are_such(count: int, scans: int) -> None:
    chain = [frozenset((f"{number}", f"{(number + 1) % count}")) for number in range(count) for _ in range(scans)]
    for index, own in enumerate(chain):
        found = donors(index, chain)
        assert len(set(found)) == len(found) > 0
        assert index not in found
        if count > 3:
            assert len(found) == min(3, scans * (count - 3))
            assert all(not own & chain[donor] for donor in found)


def test_blur_without_moving_keeps_linear_images_and_blurs_at_least_as_much() -> None:
    ramp = torch.arange(24.0).view(1, 1, 24, 1, 1).expand(1, 1, *SHAPE)
    for shift in (0.25, 0.5, 2.3, -1.8):
        dvf = torch.full((1, 3, *SHAPE), shift)
        inner = (..., slice(2, -2), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(blur_without_moving(ramp, dvf)[inner], ramp[inner])
        impulse = torch.zeros(1, 1, *SHAPE)
        impulse[..., 12, 10, 14] = 1
        interpolated = warp(impulse, dvf)
        assert blur_without_moving(impulse, dvf).square().sum() <= interpolated.square().sum() + 1e-6
