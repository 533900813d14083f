"""The report: one HTML file made from run folders alone. Imports no torch."""

from gvsl.report.report import summary_lines, write_report

__all__ = ["summary_lines", "write_report"]
