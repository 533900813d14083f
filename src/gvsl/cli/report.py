"""gvsl report: what runs found, as one page."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, new_parser, parse
from gvsl.files import refuse_existing


def report(words: Sequence[str]) -> None:
    """Write what runs found as one HTML file that opens without a network."""
    from gvsl.report import read_report, summary_lines, write_report

    parser = new_parser(report, "DIR... --out FILE.html")
    what = "folders of runs, or folders with such folders in them"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=what)
    add_path(parser, "--out", "FILE.html", "the new file to write")
    options = parse(parser, words)
    refuse_existing(options.out)
    data = read_report(options.folders)
    page = write_report(data, options.out)
    print("\n".join(summary_lines(data)))
    print(f"Report: {page.resolve()}")
