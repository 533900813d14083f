import pytest
import torch

from gvsl.transfer.augmentation import augment


def example() -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image, and classes that are its levels."""
    coarse = torch.rand(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size=(24, 20, 22), mode="trilinear")
    return image, (image > 0.4).long() + (image > 0.6).long()


def test_nothing_is_changed_unless_asked() -> None:
    image, classes = example()
    same = augment(image, classes, "none", 0, 0)
    assert torch.equal(same[0], image)
    assert same[1] is classes


def test_classes_move_with_the_image() -> None:
    image, classes = example()
    for number in range(8):
        moved, labels = augment(image, classes, "spatial", 0, number)
        assert labels is not None
        assert labels.dtype == torch.int64
        levels = (moved > 0.4).long() + (moved > 0.6).long()
        assert (levels == labels).float().mean() > 0.9
    assert (levels == classes).float().mean() < 0.9


def test_grey_values_change_where_they_are() -> None:
    image, classes = example()
    changed = [augment(image, classes, "intensity", 0, number) for number in range(10)]
    assert all(labels is classes for _, labels in changed)
    moved = [not torch.equal(each, image) for each, _ in changed]
    assert 0 < sum(moved) < 10
    order = image.flatten().argsort()
    assert all((each.flatten()[order].diff() >= -1e-6).all() for each, _ in changed)


@pytest.mark.parametrize("kind", ["spatial", "both"])
def test_a_change_is_a_function_of_seed_and_number(kind: str) -> None:
    image, classes = example()
    draws = [augment(image, classes, kind, seed, number)[0] for seed, number in ((0, 3), (0, 4), (1, 3))]  # type: ignore[arg-type]
    torch.manual_seed(5)
    assert torch.equal(draws[0], augment(image, None, kind, 0, 3)[0])  # type: ignore[arg-type]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
