"""The matrix of Table 1: methods x stores x modes x seeds, each run named by everything that decides its results."""

from gvsl.benchmark.calibrate import Estimate, estimate, kind_of
from gvsl.benchmark.execute import execute
from gvsl.benchmark.folder import folders_of, is_finished, strangers, was_failed
from gvsl.benchmark.matrix import Column, Matrix, Run, build_matrix, find_columns, find_source
from gvsl.benchmark.schedule import Executor, run_matrix

__all__ = [
    "Column",
    "Estimate",
    "Executor",
    "Matrix",
    "Run",
    "build_matrix",
    "estimate",
    "execute",
    "find_columns",
    "find_source",
    "folders_of",
    "is_finished",
    "kind_of",
    "run_matrix",
    "strangers",
    "was_failed",
]
