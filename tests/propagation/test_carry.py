from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import avg_pool3d

from gvsl.backbones import UNet3D
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.geometry import gaussian_smooth, warp
from gvsl.methods import GVSL
from gvsl.methods.gvsl import gvsl_no_affine
from gvsl.preprocessing import Preprocessing
from gvsl.propagation import Atlas, Carried, PropagationSettings, carry
from gvsl.propagation.atlases import read_atlases
from gvsl.propagation.carry import Teacher, carried_back
from gvsl.propagation.match import Memory, centred, common_shape, match_volumes, uncentred

from ..conftest import MakeStore
from .anatomy import SHAPE, anatomy, atlas, dice, moved

SETTINGS = PropagationSettings(refine=30, start="none", least_dice=0)


@pytest.fixture(scope="module")
def method() -> GVSL:
    torch.manual_seed(0)
    return GVSL(UNet3D(width=8, levels=3)).eval()


def test_labels_follow_the_anatomy(method: GVSL) -> None:
    image, classes = anatomy()
    other, truth = moved(image, 1), moved(classes, 1, nearest=True)
    carried = carry(method, [atlas(image, classes)], other, SETTINGS)
    assert carried.votes.shape == (1, 3, *SHAPE)
    assert dice(carried.classes, truth) > dice(classes, truth) + 0.1
    assert dice(carried.classes, truth) > 0.85
    assert carried.reverse_dice is None


def test_a_volume_keeps_its_labels_flat_parts_included(method: GVSL) -> None:
    """Plain Eq. 1 gains by raising the contrast of flat windows, and moved these labels to a DSC of 0.6."""
    image, classes = anatomy()
    assert dice(carry(method, [atlas(image, classes)], image, SETTINGS).classes, classes) > 0.98


def test_sizes_may_differ(method: GVSL) -> None:
    image, classes = anatomy()
    cut = (slice(None), slice(None), slice(1, 22), slice(0, 19), slice(2, 21))
    carried = carry(method, [atlas(image, classes)], image[cut], SETTINGS)
    assert carried.classes.shape == (1, 1, 21, 19, 19)
    assert dice(carried.classes, classes[cut]) > 0.85


def test_a_turned_volume_is_told_from_one_that_matches(method: GVSL) -> None:
    image, classes = anatomy()
    settings = replace(SETTINGS, least_dice=0.7)
    good = carry(method, [atlas(image, classes)], moved(image, 2), settings)
    turned = carry(method, [atlas(image, classes)], moved(image, 2).rot90(1, (2, 4)), settings)
    assert good.reverse_dice is not None
    assert turned.reverse_dice is not None
    assert good.reverse_dice > 0.85
    assert turned.reverse_dice < 0.7
    assert not good.turned
    assert turned.turned == "turned by 90 degrees about the back-front axis"
    assert good.matches(0.7)
    assert not turned.matches(0.0)


def test_an_atlas_knows_its_voxels_so_that_a_turn_of_thick_slices_is_told(method: GVSL, make_store: MakeStore) -> None:
    store = make_store(preprocessing=Preprocessing(spacing=(1.0, 1.0, 1.5), crop="none"))
    assert read_atlases({store: ["a"]}).atlases[0].voxel == (1.0, 1.0, 1.5)
    texture = gaussian_smooth(torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0)), 3.0)
    image, other = (avg_pool3d(each, (1, 1, 3)) for each in (texture, texture.rot90(1, (3, 4))))
    classes = (image > image.median()).long()
    cubes, thick = (Atlas("a", image, classes, 2, voxel) for voxel in ((1.0, 1.0, 1.0), (1.0, 1.0, 3.0)))
    checked = replace(SETTINGS, refine=0, least_dice=0.1)
    assert carry(method, [thick], other, checked).turned == "turned by 90 degrees about the left-right axis"
    assert carry(method, [cubes], other, checked).turned != "turned by 90 degrees about the left-right axis"


def test_confidence_is_higher_where_labels_are_right(method: GVSL) -> None:
    image, classes = anatomy()
    other, truth = moved(image, 3), moved(classes, 3, nearest=True)
    atlases = [atlas(moved(image, seed), moved(classes, seed, nearest=True)) for seed in (4, 5)]
    carried = carry(method, atlases, other, SETTINGS)
    right = carried.classes == truth
    assert bool(((carried.confidence >= 0) & (carried.confidence <= 1)).all())
    near = torch.nn.functional.max_pool3d((truth > 0).float(), 5, 1, 2) > 0
    assert float(carried.confidence[right & near].mean()) > float(carried.confidence[~right & near].mean()) + 0.05


def test_a_network_that_matches_nothing_carries_by_its_own_field(method: GVSL) -> None:
    """Without refinement the labels are those that the network's field carries, wherever it points."""
    image, classes = anatomy()
    carried = carry(method, [atlas(image, classes)], image, replace(SETTINGS, refine=0, start="field"))
    shape = common_shape([SHAPE], 4)
    field = method.match(centred(image, shape), centred(image, shape)).dvf
    expected = warp(centred(classes, shape, edge=False), field, mode="nearest")
    agree = (uncentred(expected, SHAPE).long() == carried.classes).float().mean()
    assert float(agree) > 0.97  # they differ where a class has just half of a voxel


def test_the_network_sees_each_volume_once(method: GVSL) -> None:
    image, classes = anatomy()
    voters = [atlas(moved(image, seed), moved(classes, seed, nearest=True)) for seed in (1, 2, 3)]
    settings = replace(SETTINGS, refine=2, start="affine", least_dice=0.5)
    seen, memory = [], Memory()
    with method.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        first = carry(method, voters[:1], image, settings, voters[1:], memory=memory)
        assert sum(seen) == 4
        other = moved(image, 4)
        shared = carry(method, voters[:1], other, settings, voters[1:], memory=memory)
        assert sum(seen) == 5
    alone = carry(method, voters[:1], other, settings, voters[1:])
    assert torch.equal(shared.votes, alone.votes)  # whatever was matched before
    del other, shared, alone
    assert len(memory.kept) == 4  # the volume and its features are gone
    for voter in voters:
        matched = match_volumes(method, voter.image, image, replace(settings, refine=0))
        expected = method.match(matched.moving, matched.fixed).affine
        torch.testing.assert_close(matched.dvf, expected, rtol=0, atol=1e-4)
    again = carry(method, voters[:1], image, settings, voters[1:])
    assert torch.equal(first.votes, again.votes)


def test_ignored_voxels_are_neither_structure_nor_background(method: GVSL) -> None:
    image, classes = anatomy()
    hidden = (slice(None), slice(None), slice(8, 18))  # in both structures
    partly = classes.clone()
    partly[hidden] = IGNORED
    still = replace(SETTINGS, refine=0)
    alone = carry(method, [atlas(image, partly)], image, still)
    assert torch.equal(alone.classes, partly)
    assert torch.equal(alone.shown, partly.clamp(min=0))
    assert torch.equal(alone.confidence > 0, (partly != IGNORED) & (alone.similarity > 0))
    for voting in ("local", "joint", "majority"):
        both = carry(method, [atlas(image, partly), atlas(image, classes)], image, replace(still, voting=voting))
        assert torch.equal(both.classes, classes)
    probabilities = torch.tensor([0.2, 0.3, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    taught = carry(method, [atlas(image, partly)], image, still, teacher=Teacher(lambda _: probabilities, 0.1))
    torch.testing.assert_close(taught.votes[hidden], probabilities[hidden])
    assert bool((taught.classes[hidden] == 2).all())


def test_what_an_atlas_ignores_does_not_count_in_the_check(method: GVSL) -> None:
    """The image shows a structure whole that the atlas's labels ignore in part."""
    image, classes = anatomy()
    partly = classes.clone()
    partly[:, :, 8:18] = IGNORED
    whole = Carried(functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float(), torch.ones_like(image))
    still = replace(SETTINGS, refine=0)
    assert carried_back(method, whole, image, atlas(image, partly), still) == 1.0
    assert carried_back(method, whole, image, atlas(image, partly.clamp(min=0)), still) < 0.8


def test_a_match_from_an_affine_part_that_there_is_not_is_refused() -> None:
    image, classes = anatomy()
    method = gvsl_no_affine(UNet3D(width=8, levels=2)).eval()
    with pytest.raises(UserError, match="no affine head: give start field or none"):
        carry(method, [atlas(image, classes)], image, replace(SETTINGS, refine=0, start="affine"))
    carry(method, [atlas(image, classes)], image, replace(SETTINGS, refine=0, start="field"))


def test_nothing_to_carry_from_is_refused(method: GVSL) -> None:
    with pytest.raises(ValueError, match="no atlas"):
        carry(method, [], anatomy()[0])


@pytest.mark.parametrize("shape", [(24, 20, 22), (30, 27, 23)])
def test_padding_is_undone(shape: tuple[int, int, int]) -> None:
    volume = torch.rand(2, 1, *SHAPE)
    wide = common_shape([SHAPE, shape], 8)
    assert all(side % 8 == 0 and side >= max(own, other) for side, own, other in zip(wide, SHAPE, shape, strict=True))
    assert torch.equal(uncentred(centred(volume, wide), SHAPE), volume)
    assert torch.equal(uncentred(centred(volume, wide, edge=False), SHAPE), volume)
