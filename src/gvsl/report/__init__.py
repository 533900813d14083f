"""The report: one HTML file, and Table 1, made from run folders alone. Imports no torch."""

from gvsl.report.figure_files import write_figures
from gvsl.report.report import summary_lines, write_report
from gvsl.report.table1 import table1
from gvsl.report.table1_csv import as_csv
from gvsl.report.table1_latex import as_latex
from gvsl.report.table1_markdown import as_markdown

__all__ = ["as_csv", "as_latex", "as_markdown", "summary_lines", "table1", "write_figures", "write_report"]
