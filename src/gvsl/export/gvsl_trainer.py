"""A trainer for nnU-Net v2 that fine-tunes pre-trained weights: this file is copied into what gvsl exports.

nnU-Net finds it where the environment variable nnUNet_extTrainer names its folder:

    nnUNetv2_train DATASET 3d_fullres 0 -p gvslPlans -tr nnUNetTrainerGVSL -pretrained_weights checkpoint.pth
"""

from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class WarmUpPolyLR(PolyLRScheduler):  # type: ignore[misc]  # nnU-Net comes without types
    """nnU-Net's decay of the learning rate, after a linear rise."""

    def __init__(self, optimizer: torch.optim.Optimizer, initial_lr: float, max_steps: int, warm_up: int) -> None:
        """Set the rate of the first epoch; `warm_up` is the number of epochs of the rise."""
        self.warm_up = warm_up
        super().__init__(optimizer, initial_lr, max_steps)

    def step(self, current_step: int | None = None) -> None:
        """Set the rate of an epoch, by default the next one."""
        epoch = self.ctr if current_step is None or current_step == -1 else current_step
        super().step(current_step)
        for group in self.optimizer.param_groups:
            group["lr"] *= min(1.0, (epoch + 1) / self.warm_up)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class nnUNetTrainerGVSL(nnUNetTrainer):  # type: ignore[misc]  # noqa: N801 - nnU-Net's trainers are named so
    """nnU-Net's trainer at a tenth of its learning rate, after a warm-up in which the new last layers settle."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - as nnU-Net has it
    ) -> None:
        """Set the schedule; the arguments are nnU-Net's."""
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = 1e-3
        self.warm_up_epochs = 50

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return nnU-Net's optimiser with the warm-up."""
        optimizer, _ = super().configure_optimizers()
        return optimizer, WarmUpPolyLR(optimizer, self.initial_lr, self.num_epochs, self.warm_up_epochs)
