"""Where logged values go beside curves.csv: TensorBoard, Weights & Biases, MLflow, by Lightning's own loggers.

What is sent is the logged values under the run's name: no settings, paths, code or facts about the machine.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from gvsl.errors import UserError
from gvsl.settings import Loggers
from gvsl.text import note, one_line

TENSORBOARD = "tensorboard"
FOLDERS = {TENSORBOARD: "tensorboard", "wandb": "wandb", "mlflow": "mlruns"}
"""What each logger writes into in a run's folder."""
PACKAGES = {TENSORBOARD: "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""The package that each logger needs; its extra of gvsl has the logger's name."""
PROJECT = "gvsl"
"""The project at Weights & Biases, and the experiment of MLflow."""
WANDB_PROJECT = "WANDB_PROJECT"
MLFLOW_ADDRESS = "MLFLOW_TRACKING_URI"


def resolve_loggers(chosen: Loggers | None) -> tuple[str, ...]:
    """Return the loggers beside the run's own table; without a choice TensorBoard, if it is installed.

    Raises:
        UserError: a package of one is not installed.
    """
    if chosen is None:
        if find_spec(PACKAGES[TENSORBOARD]) is not None:
            return (TENSORBOARD,)
        note(f'curves.csv alone is written: pip install "gvsl[{TENSORBOARD}]" for TensorBoard')
        return ()
    names = tuple(name for name in dict.fromkeys(chosen) if name in PACKAGES)
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            fix = f'pip install "gvsl[{name}]", or leave it out of --trainer.loggers'
            raise UserError(f"the logger {name} needs {PACKAGES[name]}, which is not installed: {fix}")
    return names


@contextmanager
def open_loggers(names: Sequence[str], out: Path) -> Iterator[list[Logger]]:
    """Yield Lightning's loggers of a run, and close them.

    Args:
        names: see `resolve_loggers`.
        out: the run's folder, whose name is the run's.

    Raises:
        UserError: a service can't be reached, or does not know the user.
    """
    loggers = []
    try:
        for name in names:
            try:
                loggers.append(_open(name, out))
            except _errors(name) as error:
                raise UserError(f"the logger {name} can't begin ({one_line(str(error))}): {_fix(name)}") from None
        yield loggers
    finally:
        if "wandb" in names:
            import wandb

            wandb.finish()  # else the next run of this process would go on with this one


def _open(name: str, out: Path) -> Logger:
    """Return a logger that has begun: what it needs of others fails here."""
    logger: Any
    if name == TENSORBOARD:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(out, name="", version=FOLDERS[TENSORBOARD])
    if name == "wandb":
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        private = {"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True, "host": ""}
        settings = wandb.Settings(**private, disable_git=True, disable_code=True, console="off", silent=True)
        project = os.environ.get(WANDB_PROJECT, PROJECT)
        logger = WandbLogger(name=out.name, save_dir=out, project=project, settings=settings)
    else:
        from lightning.pytorch.loggers import MLFlowLogger

        address = os.environ.get(MLFLOW_ADDRESS) or f"sqlite:///{out.resolve() / FOLDERS['mlflow'] / 'mlflow.db'}"
        (out / FOLDERS["mlflow"]).mkdir(exist_ok=True)
        private = {"mlflow.user": "", "mlflow.source.name": "gvsl pretrain", "mlflow.source.git.commit": ""}
        logger = MLFlowLogger(experiment_name=PROJECT, run_name=out.name, tracking_uri=address, tags=private)
    _ = logger.experiment
    return logger


def _errors(name: str) -> tuple[type[Exception], ...]:
    """Return what a logger raises where it can't begin."""
    if name == "wandb":
        import wandb

        return (wandb.Error, OSError)
    if name == "mlflow":
        from mlflow.exceptions import MlflowException

        return (MlflowException, ImportError, OSError)
    return (OSError,)


def _fix(name: str) -> str:
    if name == "wandb":
        return "wandb login, or set WANDB_MODE=offline"
    return f"set {MLFLOW_ADDRESS} to a server that answers, or leave it out of --trainer.loggers"
