"""The state of a transfer run on its way, kept beside its output until that is there."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gvsl.backbones.weights import read_tensors
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.records.comparability import changes

if TYPE_CHECKING:
    from gvsl.transfer.fit import Watch

FORMAT = 1
STATE_NAME = "state.json"
TENSOR = "tensor"
"""The key of a tensor's name in the JSON."""


def part_folder(out: Path) -> Path:
    """Where the state of a run is kept until its folder is there."""
    return out.with_name(f"{out.name}.part")


class Checkpoint:
    """Saves the whole state of a run every so many steps, and gives back the last one.

    A state is weights, the best weights so far, what the optimiser knows, the curves and the losses since the last
    row: all that the next step depends on beside the seed and the number of the step. Tensors are safetensors, the
    rest JSON, and the JSON names its tensors, so that a run stopped in the middle of a save has the state before.
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
            identity: what the state belongs to: settings, store, weights; JSON values.
            every: steps between two saves; 0 saves nothing.
            effects: of the settings (`gvsl.settings.effects_of`); those that decide no result may change.
            resume: take up the state that is there, instead of refusing it.

        Raises:
            UserError: there is a state and `resume` is false, there is none and it is true, or the state is
                broken or belongs to other settings.
        """
        self.folder, self.effects, self.every = folder, effects or {}, every
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.began = time.monotonic()
        self._state: dict[str, Any] | None = None
        present = (folder / STATE_NAME).is_file()
        if present and not resume:
            raise UserError(f"{folder} holds a stopped run: give --resume to go on with it, or remove it")
        if resume and not present:
            raise UserError(f"{folder} holds no state to go on from: leave out --resume to begin the run")
        if resume:
            self._state = self._read()

    @property
    def done(self) -> int:
        """Steps that the state has behind it; 0 without one."""
        return 0 if self._state is None else int(self._state["step"])

    @property
    def seconds(self) -> float:
        """Time spent on the run, before and after it was stopped."""
        return (time.monotonic() - self.began) + (0.0 if self._state is None else float(self._state["seconds"]))

    def restore(self, watch: "Watch", optimiser: torch.optim.Optimizer) -> list[Tensor]:
        """Put the state into network and optimiser, and return the losses that have no row yet.

        Raises:
            UserError: its tensors can't be read or don't fit.
        """
        if self._state is None:
            return []
        path = self.folder / str(self._state["tensors"])
        tensors = read_tensors(path)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        try:
            watch.trained.load_state_dict(parts["network"])
            watch.best = {key: value.to(watch.best[key].device) for key, value in parts["best"].items()}
            known = _unpacked(self._state["optimiser"], parts.get("optimiser", {}))
            known = {int(index): state for index, state in known.items()}
            optimiser.load_state_dict({"state": known, "param_groups": optimiser.state_dict()["param_groups"]})
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} does not fit the run ({error}): remove {self.folder} and begin again") from None
        best = self._state["best_score"]
        watch.result.best_score = -math.inf if best is None else float(best)
        watch.result.best_step = int(self._state["best_step"])
        watch.result.rows = [dict(row) for row in self._state["rows"]]
        device = next(watch.network.parameters()).device
        return list(parts["since"]["losses"].to(device).unbind()) if "since" in parts else []

    def save(self, step: int, watch: "Watch", optimiser: torch.optim.Optimizer, losses: list[Tensor]) -> None:
        """Keep the state after `step` if it is time."""
        if not self.every or step % self.every:
            return
        tensors = {f"network/{key}": value for key, value in watch.trained.state_dict().items()}
        tensors |= {f"best/{key}": value for key, value in watch.best.items()}
        known = _packed(optimiser.state_dict()["state"], "optimiser", tensors)
        if losses:
            tensors["since/losses"] = torch.stack(losses)
        name = f"state-{step}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / name) as temporary:
            save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, temporary)
        best = watch.result.best_score
        state = {
            "format": FORMAT,
            "identity": self.identity,
            "step": step,
            "tensors": name,
            "optimiser": known,
            "best_step": watch.result.best_step,
            "best_score": best if math.isfinite(best) else None,
            "rows": watch.result.rows,
            "seconds": self.seconds,
        }
        write_text(self.folder / STATE_NAME, json.dumps(state, allow_nan=False) + "\n")
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def remove(self) -> None:
        """Remove the state: the run is done, or can't go on."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _read(self) -> dict[str, Any]:
        path = self.folder / STATE_NAME
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["format"] != FORMAT:
                raise UserError(f"{path} has format {state['format']}; this gvsl reads format {FORMAT}")
            began: dict[str, Any] = state["identity"]
            changed = changes(began, self.identity, self.effects)
            fits = {"step": int, "tensors": str, "rows": list, "seconds": float, "best_step": int}
            if not all(isinstance(state[key], kind) for key, kind in fits.items()) or "/" in state["tensors"]:
                raise ValueError("a value is of another type")
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} can't be read ({error}): remove {self.folder} and begin again") from None
        if changed:
            raise UserError(
                f"{self.folder} was begun with {'; '.join(map(str, changed))}: "
                f"resume with the earlier value, or remove {self.folder} and begin again"
            )
        return dict(state)


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON can say it: a tensor is put into `tensors`, and only its name stays."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name.partition("/")[2]}
    if isinstance(value, list):
        return [_packed(item, f"{name}/{number}", tensors) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): _packed(item, f"{name}/{key}", tensors) for key, item in value.items()}
    return value


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `_packed` was given, with its keys as text."""
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]].clone()  # as aligned in memory as what torch allocates: sums round alike
        return {key: _unpacked(item, tensors) for key, item in value.items()}
    return value
