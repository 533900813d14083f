"""The matrix of Table 1: methods x stores x modes x seeds, each run told apart by all that decides it."""

from gvsl.benchmark.calibrate import Estimate, estimate, kind_of
from gvsl.benchmark.execute import execute, is_finished
from gvsl.benchmark.failures import was_failed
from gvsl.benchmark.found import folders_of, strangers
from gvsl.benchmark.matrix import Column, Matrix, Run, build_matrix
from gvsl.benchmark.schedule import Place, run_matrix

__all__ = [
    "Column",
    "Estimate",
    "Matrix",
    "Place",
    "Run",
    "build_matrix",
    "estimate",
    "execute",
    "folders_of",
    "is_finished",
    "kind_of",
    "run_matrix",
    "strangers",
    "was_failed",
]
