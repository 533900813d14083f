"""Checkpoints of a transfer run, kept beside its output folder until that is complete."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from safetensors.torch import save_file
from torch import Tensor

from gvsl.backbones.checkpoint_file import fits_adam
from gvsl.backbones.tensor_file import read_tensors, tensor_shapes
from gvsl.backbones.weights import compare_keys
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.readers import check_kind, read_json
from gvsl.records.comparability import changes

FORMAT = 1
STATE_NAME = "state.json"
WEIGHTS = ("network", "best", "average")
"""Groups of tensors that have the names and shapes of the network's."""
TENSOR = "tensor"
"""The key of a tensor's name in the JSON."""


def part_folder(out: Path) -> Path:
    """Return the folder of a run's checkpoint."""
    return out.with_name(f"{out.name}.part")


class StateFile(TypedDict):
    """Content of state.json."""

    format: int
    identity: dict[str, Any]
    step: int
    tensors: str
    optimiser: dict[str, Any]
    seconds: float
    best_step: int
    best_score: float | None
    rows: list[dict[str, float]]


class Stateful(Protocol):
    """Training state that can be saved and restored, such as `gvsl.transfer.monitor.TrainingMonitor`."""

    def export_state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return tensors by group and name, and JSON values."""

    def import_state(self, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
        """Restore what `export_state` returned."""


class Checkpoint:
    """Save the whole state of a run at regular steps, and restore the last one.

    The state holds all that the next step depends on beside the seed and the step's number: that of a `Stateful` and
    of the optimiser. Tensors are safetensors and the rest JSON, which names the tensors' file: a run interrupted while
    saving still has the state before.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        every: int,
        *,
        effects: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        """Open `folder`, which need not exist.

        Args:
            folder: of the state, see `part_folder`.
            identity: the run's settings, store and weights, to which the state belongs; JSON values.
            every: steps between two saves; 0 saves nothing.
            effects: of the settings (`gvsl.settings.effects_of`); those that decide no result may change.
            resume: continue from the state in `folder`.

        Raises:
            UserError: there is a state and `resume` is false, there is none and it is true, or the state is
                broken or belongs to other settings.
        """
        self.folder, self.effects, self.every = folder, effects or {}, every
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.began = time.monotonic()
        self.before = 0.0
        """Seconds that the run had taken before the state that is resumed."""
        self._state: dict[str, Any] | None = None
        present = (folder / STATE_NAME).is_file()
        if present and not resume:
            raise UserError(f"{folder} holds a stopped run: give --resume to resume it, or remove it")
        if resume and not present:
            raise UserError(f"{folder} holds no checkpoint to resume: leave out --resume to start the run")
        if resume:
            self._state = self._read()
            self.before = float(self._state["seconds"])

    @property
    def done(self) -> int:
        """Number of steps before the state that is resumed; 0 without one."""
        return 0 if self._state is None else int(self._state["step"])

    @property
    def seconds(self) -> float:
        """Time spent on the run, including before it was stopped."""
        return (time.monotonic() - self.began) + self.before

    def of_candidate(self, number: int) -> "Checkpoint":
        """Return the checkpoint of the run's `number`-th candidate, from 0, which resumes if it was begun.

        The first has the run's own, so that a run that was begun has a state in `folder`.
        """
        if number == 0:
            return self
        folder = self.folder / f"candidate-{number}"
        begun = (folder / STATE_NAME).is_file()
        other = Checkpoint(folder, self.identity, self.every, effects=self.effects, resume=begun)
        other.began = self.began
        self.before = other.before = max(self.before, other.before)
        return other

    def restore(self, training: Stateful, optimiser: torch.optim.Optimizer) -> None:
        """Load the state, if there is one, into training and optimiser.

        Raises:
            UserError: its tensors can't be read or don't fit.
        """
        if self._state is None:
            return
        path = self.folder / str(self._state["tensors"])
        groups: dict[str, dict[str, Tensor]] = {}
        _check_tensors(path, training, optimiser)
        for name, value in read_tensors(path).items():
            group, _, key = name.partition("/")
            # Tensors mapped from a file are aligned otherwise than torch's own, and sums over them round otherwise.
            groups.setdefault(group, {})[key] = value.clone()
        try:
            training.import_state(groups, self._state)
            known = _unpack(self._state["optimiser"], groups.get("optimiser", {}))
            known = {int(index): state for index, state in known.items()}
            _check_state(known, optimiser)
            optimiser.load_state_dict({"state": known, "param_groups": optimiser.state_dict()["param_groups"]})
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} does not fit the run ({error}): remove {self.folder} and start over") from None

    def save(self, step: int, training: Stateful, optimiser: torch.optim.Optimizer) -> None:
        """Save the state after `step` if it is due."""
        if self.every and step % self.every == 0:
            self._write(step, training, optimiser)

    def save_last(self, step: int, training: Stateful, optimiser: torch.optim.Optimizer) -> None:
        """Save the state after a candidate's last step, so that resuming the run does not repeat the candidate."""
        if self.every and step > self.done:
            self._write(step, training, optimiser)

    def _write(self, step: int, training: Stateful, optimiser: torch.optim.Optimizer) -> None:
        groups, values = training.export_state()
        tensors = {f"{group}/{key}": value for group, members in groups.items() for key, value in members.items()}
        known = _pack(optimiser.state_dict()["state"], "optimiser", tensors)
        name = f"state-{step}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / name, sync=True) as temporary:
            save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, temporary)
        state = {
            "format": FORMAT,
            "identity": self.identity,
            "step": step,
            "tensors": name,
            "optimiser": known,
            **values,
            "seconds": self.seconds,
        }
        write_text(self.folder / STATE_NAME, json.dumps(state, allow_nan=False) + "\n", sync=True)
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def remove(self) -> None:
        """Remove the folder of a run that is complete."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def remove_state(self) -> None:
        """Remove the state of a run that can't be continued, and keep what else its folder holds, such as labels."""
        for state in [self.folder / STATE_NAME, *self.folder.glob("state-*.safetensors")]:
            state.unlink(missing_ok=True)
        for candidate in self.folder.glob("candidate-*"):
            shutil.rmtree(candidate)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self) -> dict[str, Any]:
        path = self.folder / STATE_NAME
        try:
            state = read_json(path, dict[str, Any])
            if state.get("format") != FORMAT:
                raise UserError(f"{path} has format {state.get('format')}; this gvsl reads format {FORMAT}")
            check_kind(state, StateFile)
            changed = changes(state["identity"], self.identity, self.effects)
            if state["step"] < 0 or state["tensors"] != f"state-{state['step']}.safetensors":
                raise ValueError("it names no tensors of its step")
            if not 0 <= state["best_step"] <= state["step"]:
                raise ValueError(f"its best step is {state['best_step']} of {state['step']}")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} can't be read ({error}): remove {self.folder} and start over") from None
        if changed:
            raise UserError(
                f"{self.folder} was begun with {'; '.join(map(str, changed))}: "
                f"resume with the earlier value, or remove {self.folder} and start over"
            )
        return dict(state)


def _check_tensors(path: Path, training: Stateful, optimiser: torch.optim.Optimizer) -> None:
    """Check a state's tensors before they are read: those of the network as it is, and none larger than it.

    Raises:
        UserError: a tensor is missing, has another shape, or is too large for the run.
    """
    found = tensor_shapes(path)
    current, _ = training.export_state()
    groups = [group for group in WEIGHTS if group in current]
    wanted = {f"{group}/{key}": value for group in groups for key, value in current[group].items()}
    own = {name: value for name, value in found.items() if name.startswith(tuple(f"{group}/" for group in groups))}
    report = compare_keys(wanted, own)
    if not report.complete:
        raise UserError(f"{path} does not fit the run ({report}): remove {path.parent} and start over")
    limit = sum(value.numel() for group in optimiser.param_groups for value in group["params"])
    large = next((name for name, value in found.items() if name not in wanted and value.numel() > max(limit, 1)), None)
    if large is not None:
        raise UserError(f"{path} does not fit the run ({large[:80]} is too large): remove {path.parent} and start over")


def _check_state(known: dict[int, Any], optimiser: torch.optim.Optimizer) -> None:
    """Check that an optimiser's state has what its next step reads; ValueError if it doesn't.

    Args:
        known: the state by the number of its parameter.
        optimiser: that will take it.
    """
    parameters = [value for group in optimiser.param_groups for value in group["params"]]
    count = sum(value.numel() for value in parameters)
    for index, state in known.items():
        if not 0 <= index < len(parameters) or not isinstance(state, dict):
            raise ValueError(f"the optimiser has no parameter {index}")
        if isinstance(optimiser, torch.optim.LBFGS):
            lists = [state.get(name) or [] for name in ("old_dirs", "old_stps")]
            vectors = [state.get("d"), state.get("prev_flat_grad"), *lists[0], *lists[1]]
            fits = all(value is None or (isinstance(value, Tensor) and value.shape == (count,)) for value in vectors)
            fits &= all(type(state.get(name)) is int and state[name] >= 0 for name in ("n_iter", "func_evals"))
        else:
            fits = fits_adam(state, parameters[index])
        if not fits:
            raise ValueError(f"the optimiser's state of parameter {index} is not that of {type(optimiser).__name__}")


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON values: each tensor is put into `tensors` and replaced by its name."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name.partition("/")[2]}
    if isinstance(value, list):
        return [_pack(item, f"{name}/{number}", tensors) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): _pack(item, f"{name}/{key}", tensors) for key, item in value.items()}
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state given to `_pack`, with its keys as text."""
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]]
        return {key: _unpack(item, tensors) for key, item in value.items()}
    return value
