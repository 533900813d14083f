"""Where volumes come from: one function for each source, from its root folder to cases, splits and labels."""

from collections.abc import Callable
from pathlib import Path

from gvsl.datasets.dataset import Dataset
from gvsl.datasets.folder import folder
from gvsl.datasets.volumes import find_volumes, stem

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "folder": folder,
}
"""Every source by name."""

__all__ = ["DATASETS", "Dataset", "find_volumes", "folder", "stem"]
