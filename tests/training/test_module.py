import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gvsl.backbones import UNet3D
from gvsl.methods import GVSL, Method
from gvsl.training import OptimiserSettings
from gvsl.training.module import PretrainModule, channels_last
from gvsl.types import PairBatch


class Probe(Method):
    """A method of one weight, which remembers what its steps were given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.seeds: list[int] = []
        self.batches: list[PairBatch] = []

    def parts(self) -> dict[str, nn.Module]:
        return {"all": self}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        self.seeds.append(generator.initial_seed())
        self.batches.append(batch)
        loss = self.weight.square().sum() / 2
        return {"loss": loss, "half": loss / 2}


def train(
    tmp_path: Path, steps: int, seed: int, optimiser: OptimiserSettings, precision: Any = "32-true"
) -> tuple[Probe, PretrainModule]:
    probe = Probe()
    module = PretrainModule(probe, optimiser, seed, steps)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        precision=precision,
        gradient_clip_val=optimiser.clip_norm,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    volumes = torch.rand(1, 2, 4, 4, 4)
    batches = [PairBatch(volumes, volumes, ["a"], ["b"])] * steps
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return probe, module


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")
@pytest.mark.parametrize("seed", [0, 2**80])
def test_each_step_of_each_run_draws_from_a_generator_of_its_own(tmp_path: Path, seed: int) -> None:
    seeds = [train(tmp_path, 4, seed + run, OptimiserSettings())[0].seeds for run in range(2)]
    assert [len(run) for run in seeds] == [4, 4]
    assert len({*seeds[0], *seeds[1]}) == 8
    assert train(tmp_path, 4, seed, OptimiserSettings())[0].seeds == seeds[0]


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")
def test_a_step_logs_its_terms_and_the_norm_of_each_parts_gradient(tmp_path: Path) -> None:
    probe, module = train(tmp_path, 1, 0, OptimiserSettings(clip_norm=None))
    assert {name: value.item() for name, value in module.latest.items()} == pytest.approx(
        {"loss": 12.5, "half": 6.25, "gradient_norm_all": 5.0}
    )
    assert not any(value.requires_grad for value in module.latest.values())
    assert probe.batches[0].moving.is_contiguous(memory_format=torch.channels_last_3d)
    assert probe.batches[0].fixed.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradient_norms_are_those_of_each_part() -> None:
    torch.manual_seed(0)
    module = PretrainModule(GVSL(UNet3D(width=8, levels=2)), OptimiserSettings(), seed=0, max_steps=1)
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = torch.full_like(parameter, 1e-3 * number)
    module.on_before_optimizer_step(torch.optim.SGD(module.parameters()))
    assert set(module.latest) == {
        f"gradient_norm_{part}" for part in ("backbone", "affine", "deformable", "restoration")
    }
    for name, part in module.method.parts().items():
        squares = [
            parameter.grad.double().square().sum() for parameter in part.parameters() if parameter.grad is not None
        ]
        expected = math.sqrt(sum(float(square) for square in squares))
        assert module.latest[f"gradient_norm_{name}"].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_follows_its_schedule(schedule: str, warmup: int) -> None:
    settings = OptimiserSettings(learning_rate=0.5, schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
    configured = PretrainModule(Probe(), settings, seed=0, max_steps=10).configure_optimizers()
    optimiser = configured["optimizer"]
    scheduler = configured["lr_scheduler"]["scheduler"]  # type: ignore[index]
    assert isinstance(optimiser, torch.optim.Adam)
    assert configured["lr_scheduler"]["interval"] == "step"  # type: ignore[index]
    for step in range(10):
        expected = 0.5 * (min(1, (step + 1) / warmup) if warmup else 1)
        if schedule == "cosine":
            expected *= (1 + math.cos(math.pi * step / 10)) / 2
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected)
        optimiser.step()
        scheduler.step()


def test_channels_last_keeps_the_values() -> None:
    volumes = torch.rand(2, 3, 4, 5, 6)
    changed = channels_last(volumes)
    assert changed.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(changed, volumes)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_to_a_norm_in_either_precision(tmp_path: Path, precision: str) -> None:
    probe, _ = train(tmp_path, 1, 0, OptimiserSettings(clip_norm=0.5), precision)
    assert probe.weight.grad is not None
    assert probe.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)
    free, _ = train(tmp_path, 1, 0, OptimiserSettings(clip_norm=None), precision)
    assert free.weight.grad is not None
    assert free.weight.grad.norm().item() == pytest.approx(5.0, rel=1e-4)
