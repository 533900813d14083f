"""The report: one HTML file, and Table 1, made from run folders alone. Imports no torch."""

from gvsl.report.data import ReportData, read_report
from gvsl.report.report import summary_lines, write_figures, write_report
from gvsl.report.table1.formats import as_csv, as_latex, as_markdown

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
