"""gvsl report: write the results of runs as one page."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.arguments import add_path, new_parser, parse
from gvsl.files import claimed, refuse_existing


def report(argv: Sequence[str]) -> None:
    """Write the results of runs as one HTML file that opens offline and loads nothing else."""
    parser = new_parser(report, "DIR... --out FILE.html")
    what = "folders of runs, or folders that contain such folders"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=what)
    add_path(parser, "--out", "FILE.html", "the new file to write")
    options = parse(parser, argv)

    from gvsl.report import read_report, summary_lines, write_report

    refuse_existing(options.out)
    data = read_report(options.folders)
    with claimed(options.out, "gvsl report"):
        page = write_report(data, options.out)
    print("\n".join(summary_lines(data)))
    print(f"Report: {page.resolve()}")
