from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gvsl.backbones import UNet3D
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.io import UnusableFile
from gvsl.methods import GVSL
from gvsl.propagation import Atlas, PoolSettings, PropagationSettings, carry, fuse
from gvsl.propagation.carry import warped_onto
from gvsl.propagation.templates import candidates, choose_templates, other_than
from gvsl.splits import some_of

from .anatomy import anatomy, atlas, dice, moved

SETTINGS = PropagationSettings(refine=8, start="none", least_dice=0.6, templates=3)


@pytest.fixture(scope="module")
def method() -> GVSL:
    torch.manual_seed(0)
    return GVSL(UNet3D(width=8, levels=3)).eval()


def test_templates_vote_like_atlases(method: GVSL) -> None:
    image, classes = anatomy()
    first, second = atlas(image, classes), atlas(moved(image, 1), moved(classes, 1, nearest=True), "b")
    target = moved(image, 2)
    found = carry(method, [first], target, replace(SETTINGS, least_dice=0), [second])
    warped = [warped_onto(method, each, target, SETTINGS) for each in (first, second)]
    votes, _ = fuse(target, torch.cat([each.image for each in warped]), torch.cat([each.labels for each in warped]))
    assert torch.equal(found.votes, votes)


def test_nothing_is_carried_back_onto_a_template(method: GVSL) -> None:
    image, classes = anatomy()
    poor = atlas(moved(image, 1), moved(classes, 1, nearest=True), "atlas")
    target = moved(image, 2)
    same = atlas(target, moved(classes, 2, nearest=True), "template")  # which agrees with the votes by far the most
    assert carry(method, [poor], target, SETTINGS, [same]).checked_on == "atlas"


def test_labels_that_pass_through_templates_are_better(method: GVSL) -> None:
    """One match is wrong in places; those by way of other members of the population are wrong in different ones."""
    image, classes = anatomy()
    source = atlas(moved(image, 5), moved(classes, 5, nearest=True))
    volumes = {f"v{seed}": moved(image, seed) for seed in range(10, 13)}
    templates = choose_templates(method, [source], list(volumes), volumes.__getitem__, SETTINGS)
    assert len(templates) == 3
    target, truth = moved(image, 1), moved(classes, 1, nearest=True)
    direct, through = (carry(method, [source], target, SETTINGS, voters).classes for voters in ((), templates))
    assert dice(through, truth) > dice(direct, truth)


def test_templates_do_not_change_the_check(method: GVSL) -> None:
    image, classes = anatomy()
    target, template = moved(image, 1), moved(image, 2)
    source, further = atlas(image, classes), atlas(template, classes, "template")
    alone, through = (carry(method, [source], target, SETTINGS, voters) for voters in ([], [further]))
    assert not torch.equal(alone.votes, through.votes)
    assert alone.reverse_dice == through.reverse_dice is not None
    assert alone.checked_on == through.checked_on == "a"


def test_the_best_matches_are_chosen_and_what_fails_is_left_out(method: GVSL) -> None:
    image, classes = anatomy()
    source = atlas(image, classes)
    settings = replace(SETTINGS, templates=2)
    volumes = {f"v{seed}": moved(image, seed) for seed in range(10, 13)}
    volumes["turned"] = moved(image, 3).rot90(1, (2, 4))

    def read(case: str) -> Tensor:
        if case == "damaged":
            raise UnusableFile("it is damaged")
        return volumes[case]

    chosen = choose_templates(method, [source], [*volumes, "damaged"], read, settings)
    worth = {name: carry(method, [source], each, settings).reverse_dice or 0.0 for name, each in volumes.items()}
    assert [template.id for template in chosen] == sorted(set(worth) - {"turned"}, key=lambda each: -worth[each])[:2]
    with pytest.raises(UserError, match=r"none of 2 volumes matches .* or leave out --templates"):
        choose_templates(method, [source], ["turned", "damaged"], read, SETTINGS)
    assert choose_templates(method, [source], ["damaged"], read, replace(SETTINGS, templates=0)) == []
    unchecked = choose_templates(method, [source], ["turned"], read, replace(SETTINGS, least_dice=0))
    assert [template.id for template in unchecked] == ["turned"]


def test_a_template_does_not_know_what_its_atlas_ignores(method: GVSL) -> None:
    image, classes = anatomy()
    classes[:, :, 8:18] = IGNORED
    still = replace(SETTINGS, refine=0, least_dice=0)
    (template,) = choose_templates(method, [atlas(image, classes)], ["v"], lambda _: moved(image, 1), still)
    assert torch.equal(template.classes, classes)


def test_candidates_are_three_for_each_template_whatever_their_order() -> None:
    ids = [f"case{number}" for number in range(100)]
    found = candidates(ids, SETTINGS)
    assert len(found) == 9
    assert found == candidates(ids[::-1], SETTINGS) != ids[:9]
    assert candidates(ids, replace(SETTINGS, templates=0)) == []
    assert some_of(ids[::-1], None) == sorted(ids)


def test_templates_of_nobody_are_refused() -> None:
    with pytest.raises(UserError, match="templates is -1"):
        PropagationSettings(templates=-1)
    with pytest.raises(UserError, match="images atlas trains on the atlases' own labels"):
        PoolSettings(templates=2, images="atlas")


def test_labels_of_several_channels_are_carried_back_whole(method: GVSL) -> None:
    """An atlas without a mask of known voxels counted each channel of its image as one."""
    image, classes = anatomy()
    both = torch.cat([image, image.flip(2)], dim=1)
    labels = warped_onto(method, Atlas("a", both, classes, 3), both, replace(SETTINGS, refine=0)).labels
    assert labels.shape[1] == 3
    assert torch.equal(labels.argmax(dim=1, keepdim=True), classes)


def test_no_image_votes_twice_or_beside_an_atlas_that_it_is(method: GVSL) -> None:
    image, classes = anatomy()
    source, other = atlas(image, classes), moved(image, 1)
    volumes = {"atlas again": image.clone(), "one": other, "one again": other.clone()}
    settings = replace(SETTINGS, least_dice=0)
    found = choose_templates(method, [source], list(volumes), volumes.__getitem__, settings)
    assert [each.id for each in found] == ["one"]
    assert other_than(other.clone(), found) == [] and other_than(image, found) == found
