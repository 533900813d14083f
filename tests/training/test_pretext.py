"""Every method's figures of held-out volumes, from a run's folder to the report."""

from pathlib import Path

import pytest

from gvsl.arguments import default_settings
from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
from gvsl.methods import METHODS
from gvsl.methods.deepcluster import DeepClusterSettings
from gvsl.report import summary_lines, write_report
from gvsl.store import Store
from gvsl.training import PretrainSettings, TrainerSettings, evaluate_pretraining, pretrain

MATCHING = {"folded", "affine_displacement", "affine_difference"}
MATCHING |= {f"ncc{end}" for end in ("", "_affine", "_identity")}
MATCHING |= {f"dice_{end}" for end in ("before", "affine", "after", "swapped", "affine_swapped", "mean_field")}
MATCHING |= {
    f"smooth_ncc{end}"
    for end in ("", "_affine", "_identity", "_swapped", "_affine_swapped", "_blurred", "_affine_blurred")
}
MATCHING |= {"smooth_ncc_mean_field"}
RESTORING = {"restoration", "restoration_identity"}
TWINS = {"twin_accuracy", "twin_chance", "embedding_std", "effective_rank"}
EXPECTED = {
    **dict.fromkeys(("gvsl", "gvsl-no-affine"), MATCHING | RESTORING),
    "gvsl-no-restoration": MATCHING,
    **dict.fromkeys(("gvsl-no-matching", "denoising", "inpainting", "models-genesis"), RESTORING),
    "rotation": {"accuracy"},
    "deepcluster": {"embedding_std", "effective_rank"},
    **dict.fromkeys(("simsiam", "byol", "simclr"), TWINS),
}
"""What a method that isn't named here measures of held-out volumes is its own affair, but it must be something."""


@pytest.mark.parametrize("name", METHODS)
def test_held_out_volumes_are_measured_and_reported(name: str, phantom_store: Store, tmp_path: Path) -> None:
    settings = PretrainSettings(
        backbone=UNet3DSettings(width=8),
        data=DataSettings(batch_size=1, crop=(16, 16, 16), workers=0),
        trainer=TrainerSettings(max_steps=2, device="cpu"),
        pretext=DeepClusterSettings(clusters=2) if name == "deepcluster" else default_settings(METHODS[name]),
    )
    run = tmp_path / "run"
    pretrain(phantom_store, run, settings, name)
    record = evaluate_pretraining(run, phantom_store)
    figures = {key.removeprefix("val/") for key in record.metrics if key.startswith("val/")}
    assert figures == EXPECTED.get(name, figures) and figures
    kinds = {picture["kind"] for picture in record.pictures}
    assert kinds == ({"pair"} if figures >= MATCHING else set()) | ({"restoration"} if figures >= RESTORING else set())
    assert evaluate_pretraining(run, phantom_store).metrics == record.metrics  # once more says the same
    write_report([run], tmp_path / "report.html")
    (line, *_) = summary_lines([run])
    assert line.startswith("run, ")
    if figures >= MATCHING:
        assert "ncc 0." in line
    else:
        assert all(key.replace("_", " ") in line for key in figures)
