"""nnU-Net itself: it prepares, trains and predicts with what is exported, untouched."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gvsl.backbones.weights import load_backbone
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.export.export import export
from gvsl.export.nnunet_plans import label_values, patch_for
from gvsl.export.result import ExportSettings
from gvsl.io import read_volume
from gvsl.prediction.volumes import prepared
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.preprocessing.apply import preprocess
from gvsl.records import RunRecord, write_record
from gvsl.settings.backbones import BackboneName
from gvsl.store import Store
from gvsl.transfer import load_adapted, load_segmenter

from .conftest import SHAPES, WINDOW, MakeRun

COMMAND = shutil.which("nnUNetv2_train")
needs_nnunet = pytest.mark.skipif(COMMAND is None, reason="nnU-Net 2.8.1 (nnUNetv2_train) is not on PATH")
NAME = "Dataset901_Made"
TRAINER = '''
import torch
from gvsl_trainer import nnUNetTrainerGVSL

class nnUNetTrainerTwoSteps(nnUNetTrainerGVSL):
    """Two steps, and the weights that it starts from."""

    def __init__(self, plans, configuration, fold, dataset_json, device):  # nnU-Net reads these names
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1

    def on_train_start(self):
        super().on_train_start()
        with torch.no_grad():  # else one class may win everywhere
            for name, value in self.network.named_parameters():
                if ".seg_layers." in name:
                    value.sub_(value.mean(1, keepdim=True) if value.ndim > 1 else value.clone())
        torch.save(self.network.state_dict(), "start.pth")
'''

PrepareImages = Callable[[Preprocessing], Store]
Command = Callable[..., str]


@pytest.fixture
def nnunet(tmp_path: Path) -> Command:
    """Run a command of nnU-Net in tmp_path with the exported folder `out`."""
    out = tmp_path / "out"
    (tmp_path / "results").mkdir()
    variables = {
        "nnUNet_raw": out / "raw",
        "nnUNet_preprocessed": out / "preprocessed",
        "nnUNet_results": tmp_path / "results",
        "nnUNet_extTrainer": out / "trainers",
        "PYTHONPATH": f"{out}{os.pathsep}{out / 'trainers'}",
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
    }
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}

    def run(*words: object) -> str:
        assert COMMAND is not None
        program = Path(COMMAND).with_name(str(words[0]))
        done = subprocess.run(
            [program, *map(str, words[1:])], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


def write_raw(images: Path, out: Path) -> None:
    """Lay the images out as a dataset of nnU-Net, with the exported plans."""
    raw, preprocessed = out / "raw" / NAME, out / "preprocessed" / NAME
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    for path in images.glob("*.nii.gz"):
        shutil.copy(path, raw / "imagesTr" / path.name.replace(".nii", "_0000.nii"))
        label = nib.load(images.parent / "labels" / path.name)
        array = np.asanyarray(label.dataobj)
        nib.Nifti1Image(np.where(array == 7, 2, array), label.affine).to_filename(raw / "labelsTr" / path.name)
    listing = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "ball": 1, "box": 2},
        "numTraining": len(SHAPES),
        "file_ending": ".nii.gz",
    }
    for folder in (raw, preprocessed):
        (folder / "dataset.json").write_text(json.dumps(listing))
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": ["s0", "s1", "s2"], "val": ["s3"]}]))
    shutil.copy(out / "gvslPlans.json", preprocessed / "gvslPlans.json")


@needs_nnunet
@pytest.mark.slow
def test_nnunet_prepares_as_gvsl_and_starts_from_its_weights(
    make_run: MakeRun, prepare_images: PrepareImages, images: Path, nnunet: Command, tmp_path: Path
) -> None:
    store, run, out = prepare_images(WINDOW), make_run("pretrain", WINDOW), tmp_path / "out"
    settings = ExportSettings(dataset=NAME)
    export(run, out, "nnunet", settings)
    write_raw(images, out)
    plans = out / "preprocessed" / NAME / "gvslPlans.json"
    values = json.loads(plans.read_text())
    values["configurations"]["3d_fullres"]["patch_size"] = [16, 16, 16]  # weights alone have no record of their crop
    plans.write_text(json.dumps(values))

    nnunet("nnUNetv2_extract_fingerprint", "-d", 901, "-np", 1)
    nnunet("nnUNetv2_preprocess", "-d", 901, "-plans_name", "gvslPlans", "-c", "3d_fullres", "-np", 1)
    arrays = out / "preprocessed" / NAME / "gvslPlans_3d_fullres"
    for name in store.cases:
        theirs = np.asarray(blosc2.open(str(arrays / f"{name}.b2nd"))[:])[0]
        ours, _, _ = preprocess(read_volume(images / f"{name}.nii.gz"), None, WINDOW)
        np.testing.assert_allclose(theirs, ours.array, atol=1e-6, rtol=0)
        np.testing.assert_allclose(theirs, store.image(name), atol=2**-12 + 1e-6, rtol=0)  # float16 rounds so much

    (out / "trainers" / "two_steps.py").write_text(TRAINER)
    words = ("-p", "gvslPlans", "-tr", "nnUNetTrainerTwoSteps", "-device", "cpu")
    nnunet("nnUNetv2_train", 901, "3d_fullres", 0, *words, "-pretrained_weights", out / "checkpoint.pth")
    weights = torch.load(out / "checkpoint.pth", weights_only=True)["network_weights"]
    started = torch.load(tmp_path / "start.pth", weights_only=True)
    assert all(torch.equal(started[name], value) for name, value in weights.items())
    assert {name.split(".")[0] for name in started.keys() - weights.keys()} == {"heads"}
    result = tmp_path / "results" / NAME / "nnUNetTrainerTwoSteps__gvslPlans__3d_fullres" / "fold_0"
    back = tmp_path / "back"
    export(result, back, "gvsl")

    # Two steps leave the last layer almost random: in float16, in which nnU-Net sums logits, they tie in the corners.
    assert agreement_in_float32(tmp_path, nnunet, result.parent, back) >= 0.999


FEATURES = """
import json, sys, torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

plans = json.load(open(sys.argv[1]))["configurations"]["3d_fullres"]["architecture"]
network = get_network_from_plans(*(plans[name] for name in plans), 1, 5, allow_init=True, deep_supervision=True)
load_pretrained_weights(network, sys.argv[2])
network.eval()
seen = []
network.decoder.stages[-1].register_forward_hook(lambda _, __, output: seen.append(output))
with torch.no_grad():
    image = torch.load("image.pt")
    network(image)
    torch.save([seen[0], network.encoder(image)[-1]], "features.pt")
"""


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resenc", "plainconv"])
def test_stock_nnunet_loads_its_own_networks_and_computes_gvsls_features(
    name: BackboneName, make_run: MakeRun, images: Path, nnunet: Command, tmp_path: Path
) -> None:
    run, out = decide(make_run("segmentation", WINDOW, name=name, kernel=1), images), tmp_path / "out"
    export(run, out, "nnunet", ExportSettings(dataset=NAME))
    assert not (out / "gvsl_unet.py").exists()
    image = torch.rand(1, 1, 16, 24, 20)
    torch.save(image, tmp_path / "image.pt")
    (tmp_path / "features.py").write_text(FEATURES)
    nnunet("python", "features.py", out / "gvslPlans.json", out / "checkpoint.pth")
    with torch.no_grad():
        features = load_backbone(run)(image)
    for found, wanted in zip(torch.load(tmp_path / "features.pt"), (features.local, features.global_), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)

    write_raw(images, out)
    nnunet("nnUNetv2_extract_fingerprint", "-d", 901, "-np", 1)
    nnunet("nnUNetv2_preprocess", "-d", 901, "-plans_name", "gvslPlans", "-c", "3d_fullres", "-np", 1)
    (out / "trainers" / "two_steps.py").write_text(TRAINER)
    words = ("-p", "gvslPlans", "-tr", "nnUNetTrainerTwoSteps", "-device", "cpu")
    nnunet("nnUNetv2_train", 901, "3d_fullres", 0, *words, "-pretrained_weights", out / "checkpoint.pth")
    weights = torch.load(out / "checkpoint.pth", weights_only=True)["network_weights"]
    started = torch.load(tmp_path / "start.pth", weights_only=True)
    assert all(torch.equal(started[name], value) for name, value in weights.items())
    assert all(".seg_layers." in name for name in started.keys() - weights.keys())

    back = tmp_path / "back"
    export(tmp_path / "results" / NAME / "nnUNetTrainerTwoSteps__gvslPlans__3d_fullres" / "fold_0", back, "gvsl")
    assert load_backbone(back).name == name
    assert agreement_in_float32(tmp_path, nnunet, out / "model", run) >= 0.999
    # In float16 more logits of plainconv's random features tie in the corners than of resenc's: 55 and 20 of 4096.
    assert agreement(tmp_path, nnunet, out / "model", run) >= {"resenc": 0.99, "plainconv": 0.98}[name]


@needs_nnunet
@pytest.mark.slow
def test_nnunet_trains_on_the_prepared_volumes_of_a_store(
    make_run: MakeRun, prepare_images: PrepareImages, images: Path, nnunet: Command, tmp_path: Path
) -> None:
    store, out = prepare_images(PRESETS["mr"]), tmp_path / "out"
    export(decide(make_run("segmentation"), images), out, "nnunet", ExportSettings(store.path, NAME))
    nnunet("nnUNetv2_preprocess", "-d", 901, "-plans_name", "gvslPlans", "-c", "3d_fullres", "-np", 1)
    theirs = np.asarray(blosc2.open(str(out / "preprocessed" / NAME / "gvslPlans_3d_fullres" / "s1.b2nd"))[:])[0]
    assert np.array_equal(theirs, store.image("s1"))

    assert agreement(tmp_path, nnunet, out / "model", tmp_path / "segmentation", exported=True) >= 0.99


IN_FLOAT32 = """
import sys, numpy, torch
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.inference import predict_from_raw_data as program

weights, torch.half = program.compute_gaussian, torch.float32
program.compute_gaussian = lambda *values, **named: weights(*values, **named, dtype=torch.float32)
predictor = program.nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(sys.argv[1], (0,), "checkpoint_final.pth")
image, facts = NibabelIOWithReorient().read_images([sys.argv[2]])
numpy.save("float32.npy", predictor.predict_single_npy_array(image, facts, None, None, False).transpose(2, 1, 0))
"""


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "resenc"])
def test_nnunet_that_sums_in_float32_predicts_what_gvsl_predicts(
    name: BackboneName, make_run: MakeRun, images: Path, nnunet: Command, tmp_path: Path
) -> None:
    run = decide(make_run("segmentation", WINDOW, name=name, kernel=1), images)
    export(run, tmp_path / "out", "nnunet")
    assert agreement_in_float32(tmp_path, nnunet, tmp_path / "out" / "model", run) >= 0.999


@needs_nnunet
@pytest.mark.slow
def test_nnunet_predicts_what_gvsl_predicts(make_run: MakeRun, images: Path, nnunet: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(decide(make_run("segmentation", WINDOW), images), out, "nnunet")
    assert agreement(tmp_path, nnunet, out / "model", tmp_path / "segmentation") >= 0.99


def decide(run: Path, images: Path) -> Path:
    """Fit the head of a run to the labels of s3: nnU-Net sums logits in float16, in which random ones often tie."""
    model, volume = load_segmenter(run), read_volume(images / "s3.nii.gz")
    label = np.asanyarray(nib.load(images.parent / "labels" / "s3.nii.gz").dataobj)
    with torch.no_grad():
        image = torch.from_numpy(prepared(volume, model.preprocessing).array)[None]
        features = model.network.features(image)[0].flatten(1).T
    inputs = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    targets = torch.from_numpy(np.stack([label == value for value in (0, *model.labels)], -1).reshape(-1, 3)).double()
    balance = (targets / targets.sum(0)).sum(1, keepdim=True).sqrt()  # each structure counts as much as the background
    solved = torch.linalg.lstsq(inputs * balance, targets * balance).solution.T.float()
    weight = torch.zeros_like(model.network.head.weight)
    middle = weight.shape[-1] // 2
    weight[:, :, middle, middle, middle] = solved[:, :-1]
    tensors = {"weight": weight, "bias": solved[:, -1].contiguous(), "centre": torch.zeros(8), "spread": torch.ones(8)}
    save_file(tensors, run / "head.safetensors")
    return run


def agreement_in_float32(tmp_path: Path, nnunet: Command, model: Path, run: Path) -> float:
    """Return what `agreement` does, of an nnU-Net that sums logits in float32."""
    image = tmp_path / "source" / "images" / "s3.nii.gz"
    (tmp_path / "float32.py").write_text(IN_FLOAT32)
    nnunet("python", "float32.py", model, image)
    assert main(["predict", str(run), str(image), "--out", str(tmp_path / "ours")]) == 0  # kept, if it is there
    theirs = np.array([0, *load_segmenter(run).labels])[np.load(tmp_path / "float32.npy")]
    ours = np.asanyarray(nib.load(tmp_path / "ours" / image.name).dataobj)
    assert len(np.unique(ours)) > 1  # else nothing is compared
    return float((theirs == ours).mean())


def agreement(tmp_path: Path, nnunet: Command, model: Path, run: Path, *, exported: bool = False) -> float:
    """Return the share of voxels in which nnU-Net's label map by `model` equals that of gvsl predict by `run`.

    The image is one window: nnU-Net places several, and weights them, a little otherwise. It is that of the source, or
    `exported`, of the exported dataset.
    """
    name, given = "s3.nii.gz", tmp_path / "given"
    source = tmp_path / "source" / "images" / name
    given.mkdir()
    volume = tmp_path / "out" / "raw" / NAME / "imagesTs" / "s3_0000.nii.gz"
    shutil.copy(volume if exported else source, given / "s3_0000.nii.gz")
    words = ("-i", given, "-o", tmp_path / "theirs", "-f", 0, "-device", "cpu", "-npp", 1, "-nps", 1, "--disable_tta")
    nnunet("nnUNetv2_predict_from_modelfolder", "-m", model, *words)
    assert main(["predict", str(run), str(source), "--out", str(tmp_path / "ours")]) == 0
    theirs, ours = (np.asanyarray(nib.load(tmp_path / folder / name).dataobj) for folder in ("theirs", "ours"))
    assert len(np.unique(ours)) > 1  # else nothing is compared
    values = np.array([0, *load_segmenter(run).labels])
    return float((values[theirs] == ours).mean())


def test_the_exported_dataset_has_nnunets_label_values_and_the_splits(
    make_run: MakeRun, prepare_images: PrepareImages, tmp_path: Path
) -> None:
    store, out = prepare_images(PRESETS["mr"]), tmp_path / "out"
    export(make_run("pretrain"), out, "nnunet", ExportSettings(store.path, NAME))
    raw, preprocessed = out / "raw" / NAME, out / "preprocessed" / NAME
    listing = json.loads((raw / "dataset.json").read_text())
    assert listing["labels"] == {"background": 0, "ball": 1, "box": 2}
    assert json.loads((preprocessed / "splits_final.json").read_text()) == [{"train": ["s0", "s1"], "val": ["s2"]}]
    label = np.asanyarray(nib.load(raw / "labelsTr" / "s1.nii.gz").dataobj)
    assert np.array_equal(label == 2, store.label("s1") == 7) and np.array_equal(label == 1, store.label("s1") == 1)
    image = nib.load(raw / "imagesTr" / "s1_0000.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), store.image("s1"))
    assert np.allclose(image.affine, store.cases["s1"].affine)


@pytest.mark.parametrize("labels", [{1: "ball", 7: "ball"}, {1: "background", 7: "box"}])
def test_structures_that_nnunet_could_not_tell_apart_are_refused(
    make_run: MakeRun, tmp_path: Path, labels: dict[int, str]
) -> None:
    with pytest.raises(UserError, match=f"a name of its own for each structure, and {labels[1]!r} is taken"):
        label_values(list(labels.values()))
    run = make_run("segmentation", WINDOW, kernel=1)
    head = json.loads((run / "head.json").read_text())
    head["labels"] = {str(value): name for value, name in labels.items()}
    (run / "head.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match="a name of its own"):
        export(run, tmp_path / "out", "nnunet")
    assert not (tmp_path / "out").exists()


def test_plans_say_the_window(make_run: MakeRun, tmp_path: Path) -> None:
    export(make_run("pretrain", WINDOW), tmp_path / "out", "nnunet")
    plans = json.loads((tmp_path / "out" / "gvslPlans.json").read_text())
    intensities = plans["foreground_intensity_properties_per_channel"]["0"]
    values = np.array([-500.0, -100, 0, 299, 900])
    clipped = np.clip(values, intensities["percentile_00_5"], intensities["percentile_99_5"])
    scaled = (clipped - intensities["mean"]) / intensities["std"]  # as nnU-Net's CTNormalization
    assert np.allclose(scaled, [0, 0, 0.25, 0.9975, 1])
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["normalization_schemes"] == ["CTNormalization"]


def test_the_model_folder_holds_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("segmentation", WINDOW)
    export(run, tmp_path / "out", "nnunet")
    weights = torch.load(tmp_path / "out" / "model" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    head = load_adapted(run).network.head.state_dict()
    last = {name.rpartition(".")[2]: value for name, value in weights["network_weights"].items() if ".1." in name}
    assert all(torch.equal(last[name], value) for name, value in head.items() if name in ("centre", "spread"))


def test_a_patch_is_divided_by_the_levels_and_no_larger_than_the_median() -> None:
    for levels in (2, 3, 5):
        patch = patch_for((40, 100, 33), levels, (90, 50, 17))
        assert all(side % 2 ** (levels - 1) == 0 for side in patch)
        assert all(side <= max(limit, 2 ** (levels - 1)) for side, limit in zip(patch, (40, 50, 17), strict=True))


@pytest.mark.parametrize("data", [3, {"crop": [16, 16]}, {"crop": "auto"}, {"crop": [16, 16, None]}])
def test_a_record_with_odd_windows_is_refused_by_name(data: object, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("pretrain", WINDOW)
    write_record(RunRecord("pretrain", "run", 0, {"data": data}, {}, "finished"), run)
    with pytest.raises(UserError, match=r"record\.json is not a run's record: config\.data"):
        export(run, tmp_path / "out", "nnunet")
