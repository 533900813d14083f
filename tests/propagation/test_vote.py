import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gvsl.geometry import gaussian_smooth
from gvsl.propagation.vote import ERROR_POWER, RIDGE, WINDOW, fuse
from gvsl.settings.propagation import Voting

SHAPE = (14, 12, 10)


def texture(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return gaussian_smooth(torch.rand(1, 1, *SHAPE, generator=generator), 1.0)


def one_hot(classes: Tensor) -> Tensor:
    return functional.one_hot(classes, 2).movedim(-1, 1).float()


@pytest.mark.parametrize("voting", ["joint", "local"])
def test_atlases_that_do_not_match_spoil_nothing(voting: str) -> None:
    image = texture(0)
    truth = (image[:, 0] > image.median()).long()
    atlases = torch.cat([image, texture(1), texture(2)])
    labels = torch.cat([one_hot(truth), one_hot(1 - truth), one_hot(1 - truth)])
    right = {}
    for rule in (voting, "majority"):
        votes, _ = fuse(image, atlases, labels, rule)  # type: ignore[arg-type]
        right[rule] = float((votes.argmax(1) == truth).float().mean())
    assert right[voting] > 0.95
    assert right["majority"] < 0.05


@pytest.mark.parametrize("voting", ["joint", "local", "majority"])
def test_votes_are_probabilities_and_one_atlas_votes_alone(voting: str) -> None:
    image, generator = texture(0), torch.Generator().manual_seed(3)
    labels = torch.rand(3, 4, *SHAPE, generator=generator).softmax(1)
    votes, similarity = fuse(image, torch.cat([texture(1), image, texture(2)]), labels, voting)  # type: ignore[arg-type]
    assert votes.shape == (1, 4, *SHAPE)
    assert bool((votes >= 0).all())
    torch.testing.assert_close(votes.sum(1), torch.ones(1, *SHAPE))
    assert similarity.shape == (1, 1, *SHAPE)
    assert bool(((similarity >= 0) & (similarity <= 1)).all())
    alone, _ = fuse(image, texture(1), labels[:1], voting)  # type: ignore[arg-type]
    torch.testing.assert_close(alone, labels[:1])


@pytest.mark.parametrize("voting", ["joint", "local", "majority"])
def test_an_atlas_has_no_vote_where_its_label_is_not_known(voting: Voting) -> None:
    image, atlases = texture(0), torch.cat([texture(seed) for seed in (1, 2, 3)])
    labels = torch.rand(3, 2, *SHAPE, generator=torch.Generator().manual_seed(4)).softmax(1)
    known = torch.ones(3, 1, *SHAPE, dtype=torch.bool)
    known[1, :, :5], known[:, :, 5:8], known[:2, :, 8:] = False, False, False
    votes, similarity = fuse(image, atlases, labels, voting, known=known)
    everyone = fuse(image, atlases, labels, voting)
    for place, voters in ((slice(5), [0, 2]), (slice(8, None), [2])):
        expected = fuse(image, atlases[voters], labels[voters], voting)
        for found, wanted in zip((votes, similarity), expected, strict=True):
            torch.testing.assert_close(found[:, :, place], wanted[:, :, place])
        assert not torch.allclose(votes[:, :, place], everyone[0][:, :, place], atol=0.01)
    assert not votes[:, :, 5:8].any()
    torch.testing.assert_close(similarity[:, :, 5:8], everyone[1][:, :, 5:8])


def test_twins_share_a_weight_jointly() -> None:
    """Of three atlases that are equally good, two that err together leave the third more than a third of the votes."""
    image = texture(0)
    first, second, other = (image + 0.3 * texture(seed) for seed in (1, 2, 3))
    labels = torch.cat([one_hot(torch.ones(1, *SHAPE).long())] * 2 + [one_hot(torch.zeros(1, *SHAPE).long())])

    def votes_of_the_other(voting: str, *atlases: Tensor) -> float:
        votes, _ = fuse(image, torch.cat([*atlases, other]), labels, voting)  # type: ignore[arg-type]
        return float(votes[:, 0].mean())

    gains = {
        rule: votes_of_the_other(rule, first, first) - votes_of_the_other(rule, first, second)
        for rule in ("joint", "local")
    }
    assert gains["joint"] > 0.05
    assert abs(gains["local"]) < 0.03


def test_joint_votes_are_those_of_the_paper() -> None:
    """Wang et al. (2013), Eq. 8 and 12, at one voxel, written plainly in float64."""
    image, atlases = texture(0), torch.cat([texture(seed) for seed in (1, 2, 3)])
    labels = torch.rand(3, 2, *SHAPE, generator=torch.Generator().manual_seed(4)).softmax(1)
    votes, _ = fuse(image, atlases, labels, "joint")
    centre = (7, 5, 6)
    images = [np.asarray(part, dtype=np.float64) for part in (image[0, 0], *atlases[:, 0])]
    target, *others = (in_windows(part) for part in images)
    box = tuple(slice(place - WINDOW // 2, place + WINDOW // 2 + 1) for place in centre)
    errors = [np.abs(other - target)[box] for other in others]
    joint = np.array([[float((first * second).sum()) ** ERROR_POWER for second in errors] for first in errors])
    joint += RIDGE * np.trace(joint) / 3 * np.eye(3)
    weights = np.linalg.solve(joint, np.ones(3))
    weights /= weights.sum()
    expected = np.clip(np.tensordot(weights, labels[(..., *centre)].double().numpy(), 1), 0, None)
    np.testing.assert_allclose(votes[(0, slice(None), *centre)], expected / expected.sum(), atol=1e-4)


def in_windows(image: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros_like(image)
    floor = 1e-3 * image.var(ddof=1)
    for place in np.ndindex(image.shape):
        window = image[tuple(slice(max(0, at - WINDOW // 2), at + WINDOW // 2 + 1) for at in place)]
        found[place] = (image[place] - window.mean()) / np.sqrt(window.var() + floor)
    return found
