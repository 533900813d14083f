"""Every method's run: what it trains, what it leaves, and its figures of held-out volumes up to the report."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gvsl.backbones.weights import load_backbone
from gvsl.methods import METHODS, Method
from gvsl.methods.deepcluster import DeepClusterSettings
from gvsl.methods.load_method import load_method
from gvsl.report import summary_lines, write_report
from gvsl.store import Store
from gvsl.training import PretrainSettings, build_method, evaluate_pretraining, pretrain
from gvsl.training.metrics_logger import read_curves

MATCHING = {"folded"}
MATCHING |= {f"affine_{end}" for end in ("displacement", "difference", "rotation", "translation", "scale", "shear")}
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


@dataclass(frozen=True)
class Trained:
    """A method's run of two steps, and the method as it was before."""

    name: str
    folder: Path
    before: Method


REPEATED = ("gvsl-no-affine", "gvsl-no-restoration", "denoising", "inpainting", "simsiam")
"""What trains and is measured as others are."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in REPEATED else name for name in METHODS],
)
def trained(
    request: pytest.FixtureRequest,
    phantom_store: Store,
    tiny: PretrainSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    """Each method in turn; what is added to its run is added once."""
    name = request.param
    fewer = DeepClusterSettings(clusters=2) if name == "deepcluster" else None
    settings = replace(tiny, trainer=replace(tiny.trainer, max_steps=2), pretext=fewer)
    run = tmp_path_factory.mktemp(name) / "run"
    pretrain(phantom_store, run, settings, name)
    return Trained(name, run, build_method(name, settings))


def test_every_method_trains_what_it_says_and_its_weights_say_so(trained: Trained) -> None:
    before, backbone = trained.before, load_backbone(trained.folder)
    assert backbone.provenance["pretrained"] == list(before.pretrained)
    for part in ("encoder", "decoder"):
        pairs = zip(getattr(before.backbone, part).parameters(), getattr(backbone, part).parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (part not in before.pretrained), part
    rows = read_curves(trained.folder / "curves.csv")
    assert all(f"gradient_norm_{part}" in row for row in rows for part in before.parts())
    assert load_method(trained.folder).settings == before.settings


MISSING = {
    "gvsl-no-matching": ({"ncc", "gradient_norm_affine", "gradient_norm_deformable"}, "matching."),
    "gvsl-no-affine": ({"gradient_norm_affine"}, "matching.affine."),
    "gvsl-no-restoration": ({"restoration", "gradient_norm_restoration"}, "restoration."),
}
"""What an ablation does not log, and the part that its heads lack."""


def test_ablations_log_and_keep_what_they_have(trained: Trained) -> None:
    if trained.name not in MISSING:
        return
    logged, removed = MISSING[trained.name]
    row = read_curves(trained.folder / "curves.csv")[0]
    assert not logged & row.keys()
    assert {"loss", "gradient_norm_backbone"} <= row.keys()
    heads = load_file(trained.folder / "weights" / "heads.safetensors")
    assert heads
    assert not any(name.startswith(removed) for name in heads)


def test_held_out_volumes_are_measured_and_reported(trained: Trained, phantom_store: Store, tmp_path: Path) -> None:
    name, run = trained.name, trained.folder
    record = evaluate_pretraining(run, phantom_store)
    figures = {key.removeprefix("val/") for key in record.metrics if key.startswith("val/")}
    assert figures == EXPECTED.get(name, figures) and figures
    kinds = {picture["kind"] for picture in record.pictures}
    assert kinds == ({"pair"} if figures >= MATCHING else set()) | ({"restoration"} if figures >= RESTORING else set())
    write_report([run], tmp_path / "report.html")
    (line, *_) = summary_lines([run])
    assert line.startswith("run, ")
    if figures >= MATCHING:
        assert "ncc 0." in line
    else:
        assert all(key.replace("_", " ") in line for key in figures)
