"""ReportData: the runs in some folders and what the report computes from them, each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gvsl.report.finding import Finding
from gvsl.report.grouping import WITH_CARRIED, Group, groups
from gvsl.report.run_findings import findings
from gvsl.report.runs import BrokenRun, Run, read_runs
from gvsl.report.table1.table import Table, table1
from gvsl.report.verdicts import AucComparison, auc_comparisons, headline


@dataclass(frozen=True)
class ReportData:
    """The runs, and what follows from them."""

    runs: Sequence[Run]
    broken: Sequence[BrokenRun] = ()
    """Runs that can't be read."""

    @cached_property
    def groups(self) -> list[Group]:
        """Groups of comparable transfer runs, also of those that failed."""
        return groups(self.runs)

    @cached_property
    def compared(self) -> list[Group]:
        """Groups with finished runs that are scored by DSC."""
        return [group for group in self.groups if group.metric == "DSC" and group.arms]

    @cached_property
    def table1(self) -> Table:
        """Table 1: of what labels alone teach; scores of carried labels are among those over the number of labels."""
        return table1([group for group in self.groups if group.protocol not in WITH_CARRIED])

    @cached_property
    def aucs(self) -> list[AucComparison]:
        """The comparisons of AUC."""
        return auc_comparisons(self.table1)

    @cached_property
    def findings(self) -> list[Finding]:
        """The findings about runs and comparisons, most severe first."""
        lost = [
            Finding("broken", str(run.folder), f"left out, it can't be read: {run.reason}", "left out, can't be read")
            for run in self.broken
        ]
        return lost + findings(self.runs, self.compared)

    @cached_property
    def headline(self) -> str:
        """The main result in one line."""
        return headline(self.runs, self.compared, self.aucs)


def read_report(folders: Iterable[Path]) -> ReportData:
    """Read every run in or below `folders`; those that can't be read are listed, and count for nothing.

    Raises:
        UserError: a folder holds no record, or no run at all can be read.
    """
    broken: list[BrokenRun] = []
    return ReportData(read_runs(folders, broken), broken)


Source = ReportData | Sequence[Path]
"""Folders of runs, or what was read from them."""


def data_of(source: Source) -> ReportData:
    """Return what `source` names, read if it is not yet; UserError as of `read_report`."""
    return source if isinstance(source, ReportData) else read_report(source)
