"""The matrix of Table 1: methods x stores x modes x seeds, each run told apart by all that decides it."""

from gvsl.benchmark.calibrate import Estimate, estimate
from gvsl.benchmark.execute import execute, is_finished, was_failed
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
    "is_finished",
    "run_matrix",
    "was_failed",
]
