import json
import os
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest

from gvsl.readers import check_kind, parse_json, read_bytes, read_json, refuse_halves


def refusal(content: bytes, kind: Any = Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(content, kind)
    return str(caught.value)


def test_plain_json_is_read_as_it_is() -> None:
    value = {"a": [1, -2.5, True, None, "é\x1b"], "b": {"c": 2**63, "d": 1e308, "e": []}}
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(encoding: str) -> None:
    assert "UTF-16" in refusal('{"a": 1}'.encode(encoding))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 5000 + b"]", "5000 digits"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b"{" + b"".join(b'"%d": 1, ' % number for number in range(200_000)) + b'"7": 2}', "'7' twice"),
        (b"[" * 100_000 + b"]" * 100_000, "64 levels"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "64 levels"),
        (b"[" + b"[]," * 4_000_000 + b"[]]", "4,000,000 entries"),
        (b'{"a": "' + bytes([0xE9]) + b'"}', "UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Expecting value"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_sane_json_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    assert reason in refusal(content)


def test_brackets_in_texts_are_no_levels() -> None:
    value = ["[" * 200, '"[{' * 100, "\\"]
    assert parse_json(json.dumps(value).encode()) == value
    assert len(str(parse_json(b"[" * 64 + b"]" * 64))) == 128


class Row(TypedDict):
    id: str
    score: float | None
    tags: NotRequired[list[int]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"id": 1, "score": None}, "id is 1, not a text"),
        ({"id": "a", "score": "b"}, "score is 'b', not a number"),
        ({"id": "a"}, "it lacks score"),
        ({"id": "a", "score": 1, "tags": [True]}, "tags[0] is True, not a whole number"),
        ({"id": "a", "score": True}, "score is True, not a number"),
        ([], "it is a list, not an object"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(value: Any, reason: str) -> None:
    assert refusal(json.dumps(value).encode(), Row) == reason
    check_kind({"id": "a", "score": 1, "tags": [2], "more": object()}, Row)


def test_only_regular_files_of_a_bounded_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**33)
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, reason in (("pipe", "pipe"), ("sparse", "bytes"), ("link", "device"), (".", "folder")):
        with pytest.raises(ValueError, match=reason):
            read_json(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"../.git/annex/objects/SHA256E-s9--0.json/SHA256E-s9--0.json\n", "git annex get"),
        (b"\n<!DOCTYPE html>\n<html><head>", "web page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
    ],
)
def test_what_stands_in_for_a_file_is_named(tmp_path: Path, head: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(head)
    with pytest.raises(ValueError, match=reason):
        read_bytes(tmp_path / "a.json")


@pytest.mark.parametrize("text", [rb'{"1": "li\ud800ver"}', rb'{"a": [{"\uDFFF": 1}]}'])
def test_half_a_character_is_read_in_own_files_and_refused_in_others(text: bytes) -> None:
    with pytest.raises(ValueError, match="half of a character"):
        refuse_halves(parse_json(text))
    refuse_halves(parse_json(rb'["\ud83e\udec0", "\u00e9\\ud800"]'))
