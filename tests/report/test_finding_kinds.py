"""Findings of one kind are grouped."""

from gvsl.report.finding import Finding, by_kind


def finding(subject: str, number: float, kind: str = "broken") -> Finding:
    return Finding("broken" if kind == "broken" else "caution", subject, f"{kind} at {number}", kind)


def test_each_kind_is_one_line_with_the_first_names() -> None:
    found = [finding("a", 1, "slow"), *(finding(name, 0.5) for name in "abcde"), finding("f", 3, "loud")]
    lines = [(one.level, one.subject, one.text_with_names) for one in by_kind(found)]
    assert lines == [
        ("broken", "5 runs", "broken (a; b; c and 2 more)"),
        ("caution", "a", "slow at 1"),
        ("caution", "f", "loud at 3"),
    ]
    assert [one.text for one in by_kind(found)] == ["broken", "slow at 1", "loud at 3"]


def test_two_findings_about_one_run_keep_their_figures() -> None:
    (one,) = by_kind([finding("a", 1), finding("a", 2)])
    assert (one.subject, one.text) == ("a", "broken at 1; broken at 2")
