"""The report: one HTML file, and Table 1, made from run folders alone. Imports no torch."""

from gvsl.report.report import summary_lines, write_report
from gvsl.report.sections.paper_figures import write_figures
from gvsl.report.table1.csv import as_csv
from gvsl.report.table1.latex import as_latex
from gvsl.report.table1.markdown import as_markdown
from gvsl.report.table1.table import table1

__all__ = ["as_csv", "as_latex", "as_markdown", "summary_lines", "table1", "write_figures", "write_report"]
