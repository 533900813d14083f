from collections.abc import Callable
from pathlib import Path

from gvsl.store import PRESETS, Store, describe, prepare
from gvsl.types import Case

MakeStore = Callable[..., Store]


def test_it_tells_what_is_in_the_store(make_store: MakeStore) -> None:
    store = make_store()
    lines = describe(store).splitlines()
    assert f"store     {store.path}" in lines
    assert "volumes   3, 2 with labels" in lines
    assert "splits    pretrain 2, train 1, test 1" in lines
    assert "shapes    12 x 14 x 16 to 13 x 15 x 17 voxels" in lines
    assert "label     1 block, in 2 volumes" in lines
    assert "refused   none" in lines
    assert any(
        "RAS, 1 mm, percentiles 0.5 to 99.5 mapped to 0 to 1, foreground with a margin of 4" in line for line in lines
    )


def test_it_tells_every_refused_file_with_its_reason(tmp_path: Path, make_case: Callable[..., Case]) -> None:
    bad = [make_case(f"bad{index}") for index in range(3)]
    for case in bad:
        case.image.write_bytes(b"")
    store = prepare([*bad, make_case("good", ())], tmp_path / "store", PRESETS["mr"], source="here")
    lines = describe(store).splitlines()
    assert lines[-4:] == ["refused   3", *[f"  images/bad{index}.nii.gz: is empty" for index in range(3)]]
    assert "splits    none; 1 in none" in lines
