"""Recipes, and the command line over them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gvsl.augment import SpatialSettings
from gvsl.backbones import levels_for
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options
from gvsl.errors import UserError
from gvsl.losses import smoothness_loss
from gvsl.methods import METHODS, GVSLSettings
from gvsl.recipes import read_recipe, recipe_names
from gvsl.settings import deciding_settings
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.pretrain import PretrainSettings
from gvsl.settings.transfer import MODES, TransferSettings

Complaint = Callable[..., str]


def test_the_promised_recipes_are_there() -> None:
    assert {"demo", "quick", "paper"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_parse_into_settings(name: str) -> None:
    pretrain_options(["store", "--out", "run", "--recipe", name])
    transfer_options(["store", "--out", "run", "--weights", "scratch", "--recipe", name])


def replace_spatial(pretext: Any) -> Any:
    """The settings without spatial augmentation, which `quick` gives all dense methods alike."""
    return replace(pretext, spatial=SpatialSettings()) if hasattr(pretext, "spatial") else pretext


EVERY_PAIR = [(name, method) for name in recipe_names() for method in METHODS]
OF_QUICK = [pair for pair in EVERY_PAIR if pair[0] == "quick"]
"""The recipe with sections for the most methods."""


@pytest.mark.no_cover  # it is slow where coverage is measured, and reaches nothing that the others don't
@pytest.mark.parametrize(
    ("name", "method"),
    [pair if pair in OF_QUICK else pytest.param(*pair, marks=pytest.mark.slow) for pair in EVERY_PAIR],
)
def test_recipes_go_with_every_method(name: str, method: str) -> None:
    options = pretrain_options(["store", "--out", "run", "--recipe", name, "--method", method])
    default = PRETEXTS[method].settings
    assert type(options.settings.pretext) is type(default)
    if not method.startswith("gvsl"):
        assert replace_spatial(options.settings.pretext) == replace_spatial(default)


def test_a_methods_section_holds_for_it_and_its_ablations_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "pretrain: {pretext: {gvsl: {ncc_weight: 3}, simclr: {views: {smallest: 0.9}, hidden: 9}}}\n", encoding="utf-8"
    )

    def pretext(method: str, *more: str) -> Any:
        words = ["store", "--out", "run", "--recipe", str(recipe), "--method", method, *more]
        return pretrain_options(words).settings.pretext

    assert pretext("gvsl").ncc_weight == pretext("gvsl-no-affine").ncc_weight == 3
    assert (pretext("gvsl").affine, pretext("gvsl-no-affine").affine) == (True, False)
    assert pretext("gvsl-no-affine", "--pretext.affine").affine
    assert (pretext("simclr").views.smallest, pretext("simclr").hidden) == (0.9, 9)
    assert pretext("simclr", "--pretext.hidden", "8").hidden == 8
    assert pretext("byol").views.smallest == 0.8


def test_a_methods_section_goes_before_what_holds_for_all(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "pretrain:\n"
        "  methods:\n"
        "    simsiam: {data: {batch_size: 4}, optimiser: {learning_rate: 1e-3}}\n"
        "    gvsl: {pretext: {window: 7}}\n"
        "  data: {batch_size: 1}\n",
        encoding="utf-8",
    )

    def settings(method: str, *more: str) -> Any:
        words = ["store", "--out", "run", "--recipe", str(recipe), "--method", method, *more]
        return pretrain_options(words).settings

    assert (settings("simsiam").data.batch_size, settings("simsiam").optimiser.learning_rate) == (4, 1e-3)
    assert (settings("byol").data.batch_size, settings("byol").optimiser.learning_rate) == (1, 1e-4)
    assert settings("gvsl-no-affine").pretext.window == 7
    assert settings("simsiam", "--batch-size", "2").data.batch_size == 2


@pytest.mark.parametrize("method", ["deepcluster", "simsiam", "byol", "simclr", "rotation", "gvsl", "inpainting"])
def test_quick_gives_a_batch_to_what_needs_one(method: str) -> None:
    settings = pretrain_options(["store", "--out", "run", "--recipe", "quick", "--method", method]).settings
    assert settings.data.batch_size == (4 if method in ("deepcluster", "simsiam", "byol", "simclr") else 1)


def test_a_modes_section_holds_for_it_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("transfer: {seed: 3, linear: {optimiser: lbfgs}, finetune: {max_steps: 7}}\n", encoding="utf-8")

    def settings(*more: str) -> TransferSettings:
        words = ["store", "--out", "run", "--weights", "scratch", "--recipe", str(recipe), *more]
        found: TransferSettings = transfer_options(words).settings
        return found

    assert (settings().optimiser, settings().max_steps, settings().seed) == ("lbfgs", 40_000, 3)
    assert (settings("--mode", "finetune").optimiser, settings("--mode", "finetune").max_steps) == ("adam", 7)
    assert settings("--mode", "finetune", "--max-steps", "8").max_steps == 8
    assert settings("--mode", "scratch") == TransferSettings(mode="scratch", seed=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", recipe_names())
def test_recipes_go_with_every_mode(name: str, mode: str) -> None:
    words = ["store", "--out", "run", "--weights", "scratch", "--recipe", name, "--mode", mode]
    assert transfer_options(words).settings.mode == mode


OF_THE_ABLATIONS = {"matching", "affine", "restoration"}
"""Switches of GVSL, which a recipe may not set: each ablation is a method that switches one off."""


def test_the_papers_recipe_names_every_setting_that_decides_a_result() -> None:
    def named(command: str) -> set[str]:
        return {name.replace("pretext.gvsl.", "pretext.") for name in read_recipe("paper", command)}

    everything = deciding_settings(PretrainSettings(pretext=GVSLSettings())).keys()
    moot = {f"pretext.{name}" for name in OF_THE_ABLATIONS}
    moot |= {name for name in everything if name.startswith("pretext.spatial.")} - {"pretext.spatial.rate"}
    moot |= {name for name in everything if name.startswith("pretext.boxes.")}
    assert everything - moot - {"seed"} - named("pretrain") == set()
    everything = deciding_settings(TransferSettings()).keys()
    moot = {name for name in everything if name.startswith(("augment.", "carrying."))} - {"augment.rate"}
    assert everything - moot - {"seed", "mode"} - named("transfer") == set()


def test_the_papers_recipe_is_the_papers() -> None:
    settings = pretrain_options(["store", "--out", "run", "--recipe", "paper"]).settings
    assert (settings.trainer.max_steps, settings.data.batch_size, settings.backbone.width) == (200_000, 2, 32)
    assert (settings.optimiser.learning_rate, settings.optimiser.schedule) == (1e-4, "constant")
    pretext = settings.pretext
    assert (pretext.matching, pretext.affine, pretext.affine_gradient, pretext.restoration) == (True,) * 4
    assert (pretext.affine_head, pretext.deformable_head, pretext.damage) == ("pooled", "direct", "appearance")
    assert (pretext.symmetric, pretext.affine_ncc_weight, pretext.ncc_sigma) == (False, 0, 0)
    assert (pretext.fusion, pretext.smooth_on, pretext.mask_outside) == ("paper", "dvf", False)
    assert (pretext.spatial.rate, pretext.ncc_weight, pretext.restoration_weight) == (0, 1, 1)
    for mode in MODES:
        words = ["store", "--out", "run", "--weights", "scratch", "--mode", mode]
        settings = transfer_options([*words, "--recipe", "paper"]).settings
        assert settings == transfer_options([*words, "--augment.rate", "0"]).settings


def test_the_papers_smoothness_is_the_sum_over_components_and_axes() -> None:
    pretext = pretrain_options(["store", "--out", "run", "--recipe", "paper"]).settings.pretext
    slopes = torch.arange(9.0).view(1, 3, 3)  # of each component along each axis
    dvf = torch.einsum("bca,adhw->bcdhw", slopes, torch.stack(torch.meshgrid([torch.arange(4.0)] * 3, indexing="ij")))
    assert pretext.smoothness_weight * smoothness_loss(dvf) == pytest.approx(float(slopes.square().sum()))


@pytest.mark.parametrize("before", [True, False])
def test_the_command_line_goes_before_the_recipe_wherever_that_stands(before: bool, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "pretrain: {seed: 5, trainer: {max_steps: 70}, optimiser: {learning_rate: 1e-3}}\n", encoding="utf-8"
    )
    given, named = ["--trainer.max-steps", "9"], ["--recipe", str(recipe)]
    words = ["store", "--out", "run", *(named + given if before else given + named)]
    settings = pretrain_options(words).settings
    assert settings.trainer.max_steps == 9
    assert settings.seed == 5
    assert settings.optimiser.learning_rate == 1e-3
    assert settings.backbone == pretrain_options(["store", "--out", "run"]).settings.backbone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "pretrain: {trainer: {max_step: 3}}",
            "sets trainer.max_step, which gvsl pretrain doesn't have (did you",
        ),
        ("pretrain: {trainer: {max_steps: many}}", "--trainer.max-steps is many: give a whole number"),
        ("pretrain: {pretext: {colour: 3}}", "pretext.colour"),
        ("pretrain: {pretext: {gvsl: {colour: 3}}}", "pretext.colour"),
        ("pretrain: {pretext: {simsam: {hidden: 3}}}", "pretext.simsam.hidden"),
        ("pretrain: {methods: {simsam: {data: {batch_size: 3}}}}", "sets methods.simsam.data.batch_size"),
        ("pretrain: {methods: {gvsl: {data: {batchsize: 3}}}}", "sets data.batchsize, which gvsl pretrain doesn't"),
        ("pretrain: {methods: {gvsl: 3}}", "sets methods.gvsl, which"),
        ("pretrain: {method: gvls}", "no method gvls"),
        ("pretrain: {method: 3}", "no method 3"),
        ("pretrain: {out: here}", "sets out, which"),
        ("pretrain: {}\npredict: {}", "a section predict"),
        ("transfer: {}", "no section pretrain"),
        ("pretrain: 3", "must have sections"),
        ("just words", "must have sections"),
        ("pretrain: {", "is not YAML"),
    ],
)
def test_a_recipes_mistake_is_one_line_that_names_it(
    text: str, expected: str, tmp_path: Path, complaint: Complaint
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    assert expected in complaint("pretrain", "store", "--out", "run", "--recipe", recipe)


def test_quick_moves_the_volumes_of_all_dense_methods_alike() -> None:
    found = [
        pretrain_options(["store", "--out", "run", "--recipe", "quick", "--method", method]).settings.pretext.spatial
        for method in ("gvsl", "gvsl-no-affine", "inpainting", "denoising", "models-genesis", "rotation")
    ]
    assert all(settings == found[0] for settings in found)
    assert found[0].rate == 1


def test_levels_are_a_number_or_follow_the_crop(complaint: Complaint) -> None:
    def levels(*more: str) -> int | str:
        found: int | str = pretrain_options(["store", "--out", "run", *more]).settings.backbone.levels
        assert transfer_options(["store", "--out", "run", "--weights", "scratch", *more]).settings.levels == found
        return found

    assert (levels(), levels("--levels", "3"), levels("--levels", "auto")) == (5, 3, "auto")
    assert levels("--recipe", "paper") == 5
    for recipe in ("quick", "demo"):  # whose crops of 32 voxels would have as many by themselves
        assert levels("--recipe", recipe) == levels_for((32, 48, 32)) == levels_for((32, 32, 32))
    said = complaint("pretrain", "store", "--out", "run", "--levels", "deep")
    assert "--backbone.levels is deep: give a whole number, or auto" in said


def test_a_recipe_of_endless_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["pretrain:", "  a0: &a0 {x: 1, y: 2}"]
    lines += [f"  a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(9))}}}" for n in range(1, 9)]
    (tmp_path / "r.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="more than 10,000 values"):
        read_recipe(str(tmp_path / "r.yaml"), "pretrain")
