import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3D
from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.methods import GVSL
from gvsl.propagation import Atlas, PoolSettings, carry
from gvsl.propagation.atlases import read_atlases
from gvsl.propagation.pool import carry_onto
from gvsl.settings.propagation import Targets
from gvsl.store import Store

ALIKE = PoolSettings(refine=0, start="none", least_dice=0, images="atlas")
"""Every field is 0: a warped atlas is the atlas."""


@pytest.fixture(scope="module")
def method() -> GVSL:
    torch.manual_seed(0)
    return GVSL(UNet3D(width=8, levels=2)).eval()


@pytest.fixture(scope="module")
def atlas(store: Store) -> Atlas:
    return read_atlases({store: ["s0"]}).atlases[0]


def test_image_and_labels_are_warped_alike(method: GVSL, store: Store, atlas: Atlas, tmp_path: Path) -> None:
    shown = replace(atlas, image=(atlas.classes == 1).float(), classes=(atlas.classes == 1).long(), count=2)
    found = carry_onto(method, [shown], store, ["s1", "s2"], tmp_path, replace(ALIKE, refine=10), {})
    for case in ("s1", "s2"):
        image, classes = found.image(case, "s0")[0], found.classes(case, "s0")
        assert image.shape == classes.shape == store.image(case).shape
        certain = (abs(image - 0.5) > 0.01) & (classes != IGNORED)
        assert certain.mean() > 0.6
        assert np.array_equal(image[certain] > 0.5, classes[certain] == 1)
        assert not np.array_equal(classes, shown.classes[0, 0].numpy())


def test_what_the_atlas_does_not_show_is_not_trained_on(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    cut = (slice(None), slice(None), slice(2, 18))
    ignoring = atlas.classes[cut].clone()
    ignoring[:, :, 0] = IGNORED
    short = Atlas("short", atlas.image[cut], ignoring, atlas.count)
    found = carry_onto(method, [short], store, ["s1"], tmp_path, ALIKE, {})
    classes = found.classes("s1", "short")
    assert (classes[[0, 1, 2, 18, 19]] == IGNORED).all()
    assert np.array_equal(classes[3:18], atlas.classes[0, 0, 3:18].numpy())
    assert np.array_equal(found.classes("s1", "short", (slice(4), slice(3, 9), slice(5))), classes[:4, 3:9, :5])


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_what_the_labels_ignore_is_not_trained_on_in_a_volume_s_own_image(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path, targets: Targets
) -> None:
    ignoring = atlas.classes.clone()
    ignoring[:, :, :6] = IGNORED
    partly = replace(atlas, classes=ignoring)
    settings = replace(ALIKE, images="own", targets=targets)
    found = carry_onto(method, [partly], store, ["s0"], tmp_path, settings, {})
    if targets == "hard":
        assert np.array_equal(found.classes("s0"), ignoring[0, 0].numpy())
    else:
        weight = found.votes("s0").sum(axis=0)
        assert not weight[:6].any()
        assert weight[6:].any()
    about = json.loads((tmp_path / ".about.json").read_text(encoding="utf-8"))
    assert about["ignored"] == "no vote"  # so that labels of an earlier gvsl are not kept


def test_volumes_that_look_turned_are_listed_and_those_kept_without_that_check_are_done_anew(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    turned = replace(atlas, image=atlas.image.rot90(2, (2, 3)), classes=atlas.classes.rot90(2, (2, 3)))
    settings = replace(ALIKE, least_dice=1e-6, images="own")
    found = carry_onto(method, [turned], store, ["s0"], tmp_path / "carried", settings, {})
    assert found.failed == ["s0"]
    found.write_table(tmp_path / "carried.csv")
    with (tmp_path / "carried.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["used"], row["turned"]) == ("False", "turned by 180 degrees about the foot-head axis")
    about, kept = tmp_path / "carried" / ".about.json", tmp_path / "carried" / "s0.json"
    earlier = {key: value for key, value in json.loads(about.read_text(encoding="utf-8")).items() if key != "check"}
    about.write_text(json.dumps(earlier, sort_keys=True) + "\n", encoding="utf-8")
    kept.write_text(kept.read_text(encoding="utf-8").replace("foot-head", "made-up"), encoding="utf-8")
    assert carry_onto(method, [turned], store, ["s0"], tmp_path / "carried", settings, {}).cases == found.cases


def test_each_atlas_is_left_out_where_it_does_not_match(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    noise = torch.rand(atlas.image.shape, generator=torch.Generator().manual_seed(0))
    strange = replace(atlas, id="strange", image=noise)
    settings = replace(ALIKE, refine=10, least_dice=0.7, images="both")
    found = carry_onto(method, [atlas, strange], store, ["s0"], tmp_path, settings, {})
    assert found.examples == {"s0": ["", "s0"]}
    assert [case.atlas for case in found.cases] == ["", "s0", "strange"]
    assert found.failed == []
    failed = carry_onto(method, [strange], store, ["s0"], tmp_path / "strange", settings, {})
    assert failed.used == []
    assert failed.failed == ["s0"]


def test_an_atlas_takes_over_the_appearance_of_a_volume(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    slope = torch.linspace(0.0, 0.2, atlas.image.shape[2]).view(-1, 1, 1)
    other = replace(atlas, image=(0.2 + 0.6 * torch.from_numpy(store.image("s1"))[None, None]) - slope)
    found = {
        sigma: carry_onto(
            method, [other], store, ["s1"], tmp_path / str(sigma), replace(ALIKE, appearance=sigma), {}
        ).image("s1", "s0")
        for sigma in (0.0, 3.0)
    }
    assert np.allclose(found[0.0], other.image[0, 0].numpy(), atol=1e-3)
    wanted = store.image("s1")
    assert abs(found[3.0] - wanted).mean() < 0.5 * abs(found[0.0] - wanted).mean()
    assert found[3.0].min() >= 0
    assert found[3.0].max() <= 1


def test_what_was_done_is_kept_for_the_same_settings_alone(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    both = replace(ALIKE, images="both")
    first = carry_onto(method, [atlas], store, ["s1"], tmp_path, both, {})
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = carry_onto(method, [atlas], store, ["s1"], tmp_path, both, {})
    assert again.cases == first.cases
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert len(written) == 3
    carry_onto(method, [atlas], store, ["s1"], tmp_path, replace(both, images="own"), {})
    assert len(list(tmp_path.rglob("*.npy"))) == 1


def test_soft_targets_are_votes_weighed_by_confidence(method: GVSL, store: Store, atlas: Atlas, tmp_path: Path) -> None:
    settings = replace(ALIKE, refine=10, images="both", targets="soft")
    found = carry_onto(method, [atlas], store, ["s1"], tmp_path, settings, {})
    carried = carry(method, [atlas], torch.from_numpy(store.image("s1"))[None, None], settings)
    own, warped = found.votes("s1"), found.votes("s1", "s0")
    assert np.allclose(own, (carried.votes * carried.confidence)[0].numpy(), atol=0.5 / 255 + 1e-6)
    assert np.allclose(warped, carried.votes[0].numpy() * (warped.sum(axis=0) > 0), atol=0.5 / 255 + 1e-6)
    assert 0.5 < (abs(warped.sum(axis=0) - 1) < 0.01).mean() < 1  # of one atlas all is known but what lies outside
    box = (slice(1, 7), slice(3), slice(2, 9))
    assert np.array_equal(found.votes("s1", "s0", box), warped[(slice(None), *box)])


def test_random_fields_warp_the_same_atlases_otherwise(
    method: GVSL, store: Store, atlas: Atlas, tmp_path: Path
) -> None:
    settings = replace(ALIKE, refine=10, images="both")
    kinds = {"matched": settings, "random": replace(settings, fields="random")}
    found = {kind: carry_onto(method, [atlas], store, ["s1"], tmp_path / kind, how, {}) for kind, how in kinds.items()}
    own, warped = found["random"].cases
    assert own == found["matched"].cases[0]
    matched = found["matched"].cases[1]
    assert (matched.fields, warped.fields) == ("matched", "random")
    assert warped.displacement == pytest.approx(matched.displacement, rel=0.01)
    assert replace(warped, fields="matched", displacement=matched.displacement) == matched
    assert np.array_equal(found["matched"].classes("s1"), found["random"].classes("s1"))
    assert not np.array_equal(found["matched"].classes("s1", "s0"), found["random"].classes("s1", "s0"))


def test_several_atlases_give_an_example_each(method: GVSL, store: Store, tmp_path: Path) -> None:
    two = read_atlases({store: ["s0", "s2"]}).atlases
    found = carry_onto(method, two, store, ["s1"], tmp_path, ALIKE, {})
    assert [(case.id, case.atlas) for case in found.cases] == [("s1", "s0"), ("s1", "s2")]
    for each in two:
        assert np.array_equal(found.classes("s1", each.id), each.classes[0, 0].numpy())


def test_a_random_field_warps_image_and_labels_alike(method: GVSL, store: Store, atlas: Atlas, tmp_path: Path) -> None:
    shown = replace(atlas, image=(atlas.classes == 1).float(), classes=(atlas.classes == 1).long(), count=2)
    settings = replace(ALIKE, refine=10, fields="random")
    first = carry_onto(method, [shown], store, ["s1"], tmp_path, settings, {})
    image, classes = first.image("s1", "s0")[0], first.classes("s1", "s0")
    certain = (abs(image - 0.5) > 0.01) & (classes != IGNORED)
    assert certain.mean() > 0.6
    assert np.array_equal(image[certain] > 0.5, classes[certain] == 1)
    again = carry_onto(method, [shown], store, ["s1"], tmp_path, settings, {}, seed=1)
    assert not np.array_equal(again.image("s1", "s0")[0], image)
    back = carry_onto(method, [shown], store, ["s1"], tmp_path, settings, {})
    assert np.array_equal(back.image("s1", "s0")[0], image)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="appearance is -1"):
        PoolSettings(appearance=-1)
    with pytest.raises(UserError, match="images"):
        PoolSettings(images="all")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="targets"):
        PoolSettings(targets="fuzzy")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="images own trains on none"):
        PoolSettings(fields="random")
    with pytest.raises(UserError, match="appearance is 2, but an atlas warped by a random field"):
        PoolSettings(fields="random", images="atlas", appearance=2.0)
