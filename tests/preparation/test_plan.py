import pytest

from gvsl.preparation.plan import MAX_ID_BYTES, safe_id


@pytest.mark.parametrize("name", ["la_031", "sub-01.T1w", "Müller_2"])
def test_ordinary_names_are_kept(name: str) -> None:
    assert safe_id(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a b", "a_b"),
        ("../a", "_._a"),
        ("..", "_."),
        ("/etc/x", "_etc_x"),
        ("-rf", "_rf"),
        ("a\x00b\n", "a_b_"),
        ("", "_"),
    ],
)
def test_unsafe_names_are_replaced(name: str, safe: str) -> None:
    assert safe_id(name) == safe


def test_long_names_stay_distinct() -> None:
    one, two = safe_id("é" * 300 + "1"), safe_id("é" * 300 + "2")
    assert one != two
    assert len(one.encode()) <= MAX_ID_BYTES
