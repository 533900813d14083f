"""Stopping a pre-training whose numbers are no longer finite, before a checkpoint holds them."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gvsl.backbones.tensor_file import all_finite
from gvsl.errors import DivergedError
from gvsl.settings.pretrain import PretrainSettings
from gvsl.training.module import PretrainModule


class StopOnDivergence(Callback):
    """Raise a DivergedError at the first step whose loss or weights are not finite.

    On a GPU losses are looked at every `trainer.log_every` steps, when they are fetched anyway: at each step, its queue
    would be emptied. Before a checkpoint, loss and weights are looked at in any case.
    """

    def __init__(self, settings: PretrainSettings) -> None:
        self.settings = settings
        self.waiting: list[tuple[int, Tensor]] = []
        """Steps whose loss has not been looked at."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the loss."""
        assert isinstance(pl_module, PretrainModule)
        loss, step = pl_module.latest["loss"], trainer.global_step
        self.waiting.append((step, loss))
        saves = step % self.settings.trainer.checkpoint_every == 0 or step == trainer.max_steps
        looks = saves or loss.device.type == "cpu" or step % self.settings.trainer.log_every == 0
        due = self.waiting if looks else []
        for number, value in due:
            if not torch.isfinite(value).all():
                raise self._diverged(f"the loss is {float(value)}", number)
        del self.waiting[: len(due)]
        if saves and not all_finite(pl_module.method.state_dict().values()):
            raise self._diverged("a weight is no longer finite", step)

    def _diverged(self, what: str, step: int) -> DivergedError:
        """Return the error, with the settings to change."""
        chosen = self.settings
        fixes = [f"an optimiser.learning_rate below {chosen.optimiser.learning_rate:g}"]
        fixes += ["optimiser.clip_norm 1"] if chosen.optimiser.clip_norm is None else []
        fixes += ["trainer.precision fp32"] if chosen.trainer.precision != "fp32" else []
        return DivergedError(f"{what} at step {step}: start another run with {' or '.join(fixes)}")
