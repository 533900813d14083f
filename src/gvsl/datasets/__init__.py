"""Datasets: one function each, from the root folder to cases, splits and labels."""

from collections.abc import Callable

from gvsl.cases import Dataset
from gvsl.datasets.asoca import asoca
from gvsl.datasets.candi import candi
from gvsl.datasets.decathlon import decathlon
from gvsl.datasets.discovery import find_volumes, label_folder
from gvsl.datasets.folder import folder
from gvsl.datasets.mmwhs import mmwhs
from gvsl.datasets.nnunet import nnunet
from gvsl.datasets.places import stem
from gvsl.datasets.stoic import stoic
from gvsl.datasets.totalsegmentator import totalsegmentator
from gvsl.datasets.tree import describe_endings

DATASETS: dict[str, Callable[..., Dataset]] = {
    "folder": folder,
    "mmwhs": mmwhs,
    "asoca": asoca,
    "candi": candi,
    "stoic": stoic,
    "decathlon": decathlon,
    "nnunet": nnunet,
    "totalsegmentator": totalsegmentator,
}
"""Every dataset by name: a function of the root folder and, if it has cross-validation, of the fold."""

__all__ = ["DATASETS", "Dataset", "describe_endings", "find_volumes", "folder", "label_folder", "stem"]
