from pathlib import Path

import pytest

from gvsl.readers import read_yaml


def read(folder: Path, text: str) -> object:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    return read_yaml(folder / "a.yaml")


def test_plain_values_and_aliases_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffa: &x {b: 1, c: [1.5, true, null, text]}\nd: *x\n") == {
        "a": {"b": 1, "c": [1.5, True, None, "text"]},
        "d": {"b": 1, "c": [1.5, True, None, "text"]},
    }


def laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*lines, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (laughs(), "10,000 values"),
        ("a: &a [*a]", "in what it repeats"),
        ("a: " + "[" * 3000 + "]" * 3000, "32 levels"),
        ("a: 1\na: 2", "sets a twice"),
        ("a: 2026-11-27", "type date"),
        ("a: 2026-13-77", "month"),
        ("a: !!set {b}", "type set"),
        ("a: .inf", "inf, not a number"),
        ("a: " + "9" * 5000, "digits"),
        ("1: a", "a key is 1"),
        ("a: !!python/object/apply:os.system [true]", "constructor"),
        ("a: [", "parsing"),
        ("a: 1\n" * 60_000, "bytes"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, text)
