"""The report: one HTML file, and Table 1, made from run folders alone. Imports no torch."""

from typing import TYPE_CHECKING, Any

from gvsl.report.data import ReportData, read_report
from gvsl.report.summary import summary_lines
from gvsl.report.table1.formats import as_csv, as_latex, as_markdown

if TYPE_CHECKING:
    from gvsl.report.report import write_figures, write_report

__all__ = [
    "ReportData",
    "as_csv",
    "as_latex",
    "as_markdown",
    "read_report",
    "summary_lines",
    "write_figures",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import what draws at its first use: matplotlib is slow to import."""
    if name in ("write_figures", "write_report"):
        from gvsl.report import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
