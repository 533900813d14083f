"""What is damaged, and how it is read: small originals of each kind of file, and their readers.

A reader returns what is wrong with content that it accepted, such as numbers that are not finite; None is all right.
"""

import csv
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 - its usual name
import torch

from gvsl.backbones import BackboneSettings, UNet3D, UNet3DSettings, build_backbone
from gvsl.backbones.checkpoint_file import check_checkpoint
from gvsl.backbones.genesis import published_name
from gvsl.backbones.nnunet import NNUNetBackbone
from gvsl.backbones.weights import load_backbone, save_weights
from gvsl.cases import Dataset
from gvsl.datasets.decathlon import decathlon
from gvsl.datasets.folder import folder
from gvsl.datasets.nnunet import nnunet
from gvsl.datasets.tasks import TASKS
from gvsl.datasets.totalsegmentator import totalsegmentator
from gvsl.io import Volume, read_label, read_volume
from gvsl.methods.load_method import load_method
from gvsl.phantom.cohort import write_phantom
from gvsl.prediction.ledger import LEDGER_NAME, open_ledger
from gvsl.prediction.results import SCORES_NAME, Scores
from gvsl.preparation import prepare
from gvsl.preparation.staging import JOURNAL_NAME, SPEC_NAME, partial_path
from gvsl.preprocessing import PRESETS
from gvsl.records import CURVES_NAME, RunRecord, write_curves, write_record
from gvsl.records.pictures import segmentation_slices
from gvsl.records.volumes import matched_volumes, segmented_volume, write_arrays
from gvsl.report import read_report, write_report
from gvsl.report.summary import summary_lines
from gvsl.store import Store, describe
from gvsl.store.manifest import CASES_NAME, MANIFEST_NAME, manifest_hash
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings
from gvsl.training.module import PretrainModule
from gvsl.training.pretrain import build_method
from gvsl.transfer import ClassificationNetwork, SegmentationNetwork, TransferSettings, save_adapted
from gvsl.transfer.checkpoint import Checkpoint
from gvsl.transfer.monitor import TrainingMonitor
from gvsl.transfer.weights import CLASSIFIER_CONFIG, Classifier, load_adapted, segmenter_config
from gvsl.transfer.weights_file import read_weights_file

from .mutants import EXECUTED, anything, damage

SHAPE = (12, 11, 10)
SPEC = replace(PRESETS["ct"], crop="none")
LABELS = {1: "ball", 2: "box"}


@dataclass(frozen=True)
class Target:
    """A kind of input."""

    make: Callable[[Path], object]
    """Writes the original into a new folder."""
    files: tuple[str, ...]
    """Patterns of the files of which one is damaged."""
    read: Callable[[Path], str | None]
    weight: int = 1
    """Its share of the mutants."""
    repair: Callable[[Path, random.Random], None] = lambda folder, draw: None
    """Makes the rest fit the damage, as an attacker would, so that hashes don't hide it."""
    hurt: Callable[[Path, random.Random], str] = damage


def small_volume(seed: int = 0) -> Volume:
    """Return whole numbers as of a CT."""
    array = np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16)
    return Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]))


# Volumes -------------------------------------------------------------------------------------------------------------


def make_volumes(root: Path) -> None:
    """Write one volume in every format."""
    volume = small_volume()
    for name in ("a.nii", "a.nii.gz"):
        nibabel.Nifti1Image(volume.array, volume.affine).to_filename(root / name)
    nibabel.Nifti1Pair(volume.array, volume.affine).to_filename(root / "pair.hdr")
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    for name, compress in (("a.nrrd", True), ("raw.nrrd", False), ("a.mha", True), ("raw.mha", False)):
        sitk.WriteImage(image, str(root / name), compress)
    for name in ("apart.nhdr", "apart.mhd"):
        sitk.WriteImage(image, str(root / name), False)
    (root / "maps").mkdir()
    for organ, value in (("one", 1), ("two", 255)):
        mask = value * (volume.array > 500 * value // 255).astype(np.uint8)
        nibabel.Nifti1Image(mask, volume.affine).to_filename(root / "maps" / f"{organ}.nii.gz")
    slices = root / "dicom"
    slices.mkdir()
    for index in range(4):
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T[index][None]))
        image.SetMetaData("0020|000e", "1.2.3")
        image.SetMetaData("0020|0032", f"0\\0\\{index}")
        image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        image.SetMetaData("0008|0060", "CT")
        sitk.WriteImage(image, str(slices / f"{index}.dcm"))


def hurt_volume(path: Path, draw: random.Random) -> str:
    """Damage bytes, or one line of a text header."""
    if path.suffix in (".nrrd", ".nhdr", ".mha", ".mhd") and draw.random() < 0.5:
        content = path.read_bytes()
        lines = list(re.finditer(rb"^([\w ]+)(: | = )(.*)$", content[:1500].split(b"\n\n")[0], re.MULTILINE))
        line = draw.choice(lines)
        odd = draw.choice(["", "nan", "-1", "0", "9" * 11, "1e400", "../x", "(", "LIST", "9" * 5000, "1 2", "\0"])
        path.write_bytes(content[: line.start(3)] + odd.encode() + content[line.end(3) :])
        return f"{line[1].decode()} {odd[:10]}"
    if path.suffix == ".dcm" and draw.random() < 0.5:
        item = pydicom.dcmread(path)
        name = draw.choice(["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
        setattr(item, name, draw.choice([0, 1, 2, 3, 15, 32, 64, 999, 65535]))
        item.save_as(path)
        return name
    return damage(path, draw) if path.suffix == ".gz" else anything(path, draw)


def read_volumes(root: Path) -> str | None:
    """Read the damaged volume and label map; the others are as they were."""
    problems = []
    for path in [*sorted(item for item in root.iterdir() if item.name not in ("dicom", "maps")), root / "dicom"]:
        if path.suffix in (".img", ".raw", ".zraw", ".gz") and not path.name.endswith(".nii.gz"):
            continue
        for reader in (read_volume, read_label):
            with refusals():
                volume = reader(path)
                if not np.isfinite(volume.array).all() or not np.isfinite(volume.affine).all():
                    problems.append(f"{path.name} is not finite")
    with refusals():
        joined = read_label(root / "maps", (), small_volume(), {1: "one", 2: "two"})
        if not set(np.unique(joined.array)) <= {0, 1, 2}:
            problems.append("the joined maps have other values")
    return "; ".join(problems) or None


# Stores --------------------------------------------------------------------------------------------------------------


def cohort(root: Path, size: int = 3) -> Dataset:
    """Return a few phantoms, written to root/volumes."""
    write_phantom(root / "volumes", size, shape=(24, 20, 18), train=1, val=1, test=0)
    return folder(root / "volumes")


def make_store(root: Path) -> None:
    """Prepare a store of a few phantoms."""
    dataset = cohort(root)
    prepare(dataset.cases, root / "store", SPEC, label_names=dataset.label_names, source="phantom")


def rehash(root: Path, draw: random.Random) -> None:
    """Give a store the hashes of its content, mostly."""
    manifest, cases = root / "store" / MANIFEST_NAME, root / "store" / CASES_NAME
    if draw.random() < 0.15 or not all(path.is_file() and path.stat().st_size < 2**20 for path in (manifest, cases)):
        return
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        values["cases"]["sha256"] = sha256(cases.read_bytes()).hexdigest()
        values["hash"] = manifest_hash(values)
        manifest.write_text(json.dumps(values), encoding="utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def read_store(root: Path) -> str | None:
    """Open a store, describe it and read all of it."""
    store = Store.open(root / "store")
    describe(store)
    for case_id, case in store.cases.items():
        image = store.image(case_id)
        if not np.isfinite(image).all() or image.min() < -0.01 or image.max() > 1.01:
            return f"the image of {case_id} is not in 0 to 1"
        if store.has_label(case_id) and store.label(case_id).dtype.kind not in "iu":
            return f"the label map of {case_id} has values that are no whole numbers"
        if not (np.isfinite(case.affine).all() and min(case.shape) > 0):
            return f"{case_id} has no geometry"
    return None


def make_interrupted(root: Path) -> None:
    """Leave what a stopped `gvsl prepare` leaves, beside a store that is whole."""
    dataset = cohort(root)
    prepare(dataset.cases, root / "store", SPEC, label_names=dataset.label_names, source="phantom")
    rows = (root / "store" / CASES_NAME).read_text(encoding="utf-8").splitlines()
    origins = (root / "store" / "sources.jsonl").read_text(encoding="utf-8").splitlines()
    staged = partial_path(root / "other")
    (staged / "store").mkdir(parents=True)
    for part in ("images", "labels"):
        (root / "store" / part).rename(staged / "store" / part)
        (root / "store" / part).mkdir()
        for file in (staged / "store" / part).iterdir():
            (root / "store" / part / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((root / "store" / MANIFEST_NAME).read_text(encoding="utf-8"))
    known = {name: manifest[name] for name in ("format", "source", "preprocessing", "label_names")}
    (staged / SPEC_NAME).write_text(json.dumps(known), encoding="utf-8")
    lines = [
        json.dumps({"row": json.loads(row), "origin": json.loads(origin)})
        for row, origin in zip(rows, origins, strict=True)
    ]
    (staged / JOURNAL_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_interrupted(root: Path) -> str | None:
    """Go on with both stores."""
    cases = folder(root / "volumes")
    for name in ("store", "other"):
        with refusals():
            store = prepare(cases.cases, root / name, SPEC, label_names=cases.label_names, source="phantom")
            for case_id in store.cases:
                if not np.isfinite(store.image(case_id)).all():
                    return f"{case_id} is not finite"
    return None


# Networks ------------------------------------------------------------------------------------------------------------


def network(levels: int = 2) -> UNet3D:
    """Return a small backbone, always the same."""
    torch.manual_seed(0)
    return UNet3D(width=8, levels=levels)


def make_weights(root: Path) -> None:
    """Save a backbone."""
    given = {"store": {"name": "a", "hash": "0" * 64}, "steps": 3, "seed": 0, "versions": {"torch": "2"}}
    save_weights(
        root / "run", network(), method="gvsl", preprocessing=SPEC, provenance=given, learnt_from=["0" * 16, "1" * 16]
    )


def finite(module: torch.nn.Module) -> str | None:
    """Return the first tensor of a module that is not finite."""
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            return f"{name} is not finite"
    return None


def read_weights(root: Path) -> str | None:
    """Load a backbone."""
    return finite(load_backbone(root / "run"))


def make_heads(root: Path) -> None:
    """Save a segmenter and a classifier."""
    settings = TransferSettings(crop=(16, 16, 16), overlap=0.25)
    for name, model, config in (
        ("segmenter", SegmentationNetwork(network(), 3), segmenter_config(LABELS, kernel=3)),
        ("classifier", ClassificationNetwork(network()), CLASSIFIER_CONFIG),
    ):
        (root / name).mkdir()
        save_adapted(
            root / name, model, config, settings=settings, method="gvsl", preprocessing=SPEC, provenance={"steps": 3}
        )


def read_heads(root: Path) -> str | None:
    """Load both, and run them."""
    for name in ("segmenter", "classifier"):
        with refusals():
            model = load_adapted(root / name)
            problem = finite(model.network)
            if problem:
                return problem
            if not (0 <= model.overlap < 1 and min(model.crop) > 0):
                return f"its windows are {model.crop} and {model.overlap}"
            if not isinstance(model, Classifier) and (0 in model.labels or not all(model.labels.values())):
                return f"its labels are {model.labels}"
            with torch.no_grad():
                model.network(torch.zeros(1, model.network.backbone.in_channels, 8, 8, 8))
    return None


def make_elsewhere(root: Path) -> None:
    """Save a network of nnU-Net as its checkpoints do."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneSettings(name="plainconv", width=8, levels=2))
    assert isinstance(backbone, NNUNetBackbone)
    torch.save({"network_weights": backbone.stock_tensors(), "logging": {"epochs": [1]}}, root / "elsewhere.pth")


def read_elsewhere(root: Path) -> str | None:
    """Read it as a start for a transfer."""
    return finite(read_weights_file(root / "elsewhere.pth"))


def make_published(root: Path) -> None:
    """Save a network as the weights of Models Genesis are, by a torch from before it wrote archives."""
    torch.manual_seed(0)
    tensors = build_backbone(BackboneSettings(name="genesis", width=8, levels=4)).state_dict()
    named = {f"module.{published_name(name)}": value for name, value in tensors.items()}
    torch.save({"epoch": 1, "state_dict": named}, root / "published.pt", _use_new_zipfile_serialization=False)


def read_published(root: Path) -> str | None:
    """Read it as a start for a transfer."""
    return finite(read_weights_file(root / "published.pt"))


TINY = PretrainSettings(
    seed=1,
    backbone=UNet3DSettings(width=8, levels=2),
    optimiser=OptimiserSettings(warmup_steps=0),
    trainer=TrainerSettings(max_steps=8, device="cpu"),
)


def make_method(root: Path) -> None:
    """Save a method with its heads, and its record."""
    method = build_method("gvsl", TINY)
    heads = {name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")}
    save_weights(root / "run", method.backbone, method="gvsl", preprocessing=SPEC, provenance={"steps": 3}, heads=heads)
    config = {"method": "gvsl", **asdict(TINY), "pretext": asdict(method.settings)}
    record = RunRecord("pretrain", "run", 1, config, {"name": "a", "hash": "0" * 64}, status="finished")
    write_record(record, root / "run")


def read_method(root: Path) -> str | None:
    """Load a method."""
    return finite(load_method(root / "run"))


def module() -> PretrainModule:
    """Return what trains a method."""
    return PretrainModule(build_method("simsiam", TINY), TINY.optimiser, TINY.seed, TINY.trainer.max_steps)


def make_checkpoint(root: Path) -> None:
    """Save a checkpoint of a pre-training, with all that gvsl reads itself."""
    trained = module()
    parameters = [value for value in trained.parameters() if value.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    for value in parameters:
        value.grad = torch.ones_like(value)
    optimiser.step()
    torch.save(
        {
            "epoch": 0,
            "global_step": 1,
            "pytorch-lightning_version": "2.6.0",
            "state_dict": trained.state_dict(),
            "loops": {},
            "callbacks": {},
            "optimizer_states": [optimiser.state_dict()],
            "lr_schedulers": [],
            "method_state": {},
        },
        root / "last.ckpt",
    )


def read_checkpoint(root: Path) -> str | None:
    """Check a checkpoint, and load what passes."""
    path, trained = root / "last.ckpt", module()
    check_checkpoint(path, trained, TINY.trainer.max_steps)
    checkpoint = torch.load(path, weights_only=True)
    trained.load_state_dict(checkpoint["state_dict"])
    optimiser = torch.optim.Adam([value for value in trained.parameters() if value.requires_grad], lr=1e-3)
    optimiser.load_state_dict(checkpoint["optimizer_states"][0])
    return finite(trained)


def training() -> tuple[TrainingMonitor, torch.optim.Adam, SegmentationNetwork]:
    """Return the state of a transfer run at its begin."""
    model = SegmentationNetwork(network(), 3)
    settings = TransferSettings(mode="finetune", max_steps=4, validate_every=1, crop=(8, 8, 8))
    monitor = TrainingMonitor(model, lambda: 0.5, settings)
    return monitor, torch.optim.Adam(model.parameters(), lr=1e-3), model


def step(optimiser: torch.optim.Adam, model: SegmentationNetwork) -> torch.Tensor:
    """Take one step on zeros."""
    loss = model(torch.zeros(1, 1, 8, 8, 8)).square().mean()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return loss.detach()


def make_stopped(root: Path) -> None:
    """Save the state of a transfer run after two steps."""
    monitor, optimiser, model = training()
    checkpoint = Checkpoint(root / "run.part", {"store": "a", "seed": 0}, 1)
    for number in (1, 2):
        monitor.losses.append(step(optimiser, model))
        monitor.log(number)
        checkpoint.save(number, monitor, optimiser)


def read_stopped(root: Path) -> str | None:
    """Resume it, and take one more step."""
    checkpoint = Checkpoint(root / "run.part", {"store": "a", "seed": 0}, 1, resume=True)
    monitor, optimiser, model = training()
    checkpoint.restore(monitor, optimiser)
    monitor.losses.append(step(optimiser, model))
    monitor.log(3)
    if not (np.isfinite(monitor.result.best_score) or monitor.result.best_score == -np.inf):
        return "its best score is no number"
    if checkpoint.seconds < 0 or checkpoint.done < 0:
        return f"it took {checkpoint.seconds} s for {checkpoint.done} steps"
    return finite(model)


# Records -------------------------------------------------------------------------------------------------------------


def make_runs(root: Path) -> None:
    """Write records of a pre-training and of two transfers, with all that can lie beside them."""
    generator = np.random.default_rng(0)
    grey = generator.random(SHAPE).astype(np.float32)
    labels = generator.integers(0, 3, SHAPE).astype(np.uint8)
    store = {"name": "hearts", "hash": "0" * 64}
    common: dict[str, Any] = {"status": "finished", "created": "2026-11-27T00:00:00+00:00", "seconds": 3.0}
    common |= {"environment": {"gvsl": "0.1.0", "torch": "2.13.0", "cores": "2"}, "curves": CURVES_NAME}
    pair: dict[str, Any] = {
        "id": "a->b",
        "ncc": 0.5,
        "ncc_affine": 0.6,
        "ncc_identity": 0.7,
        "folded": 0.0,
        "dice_before": 0.4,
    }
    pair |= {"dice_before": 0.4, "dice_after": 0.6}
    before = RunRecord("pretrain", "pre", 0, {"method": "gvsl", **asdict(TINY)}, store, **common)
    before.cases, before.metrics = [pair], {f"val/{key}": value for key, value in pair.items() if key != "id"}
    write_curves(root / "pre" / CURVES_NAME, [{"step": float(n), "loss": 1 / (1 + n), "ncc": 0.5} for n in range(5)])
    arrays = matched_volumes(grey, grey, grey, np.zeros((3, *SHAPE)))
    before.volumes = [write_arrays(root / "pre", "volumes/pair-0.npz", arrays, "pair", "a onto b")]
    write_record(before, root / "pre")
    for name, weights in (("linear", str(root / "pre")), ("random", "scratch")):
        run, method = root / name, "scratch" if weights == "scratch" else "gvsl"
        settings = asdict(TransferSettings(seed=0))
        config = {**settings, "method": method, "weights": weights, "task": "segmentation", "train_cases": ["c", "d"]}
        record = RunRecord("transfer", name, 0, config, store, **common)
        record.cases = [{"id": case, "dice": 0.5, "dice/ball": 0.5, "dice/box": 0.5} for case in ("a", "b")]
        record.metrics = {"test/dice": 0.5, "test/dice/ball": 0.5, "val/dice": 0.5, "best_step": 2, "steps_to_95": 2}
        record.labels = {str(value): title for value, title in LABELS.items()}
        slices = segmentation_slices(grey, labels, labels)
        record.pictures = [write_arrays(run, "pictures/best.npz", slices, "segmentation", "best: a")]
        volume = segmented_volume(grey, labels, labels)
        record.volumes = [write_arrays(run, "volumes/best.npz", volume, "segmentation", "best: a")]
        record.pretraining = {"steps": 8, "seed": 0, "store": "0" * 64} if method == "gvsl" else {}
        record.training = {"steps": 4, "stopped_by": "max_steps"}
        points = {"format": 1, "names": ["ball", "box"], "cases": ["a"], "points": [[0.0, 1.0], [1.0, 0.5]]}
        points |= {"groups": [0, 1], "of_cases": [0, 0], "notes": []}
        (run / "clusters.json").write_text(json.dumps(points), encoding="utf-8")
        record.clusters = "clusters.json"
        write_curves(run / CURVES_NAME, [{"step": float(n), "loss": 1 / n, "val_dice": 0.1 * n} for n in range(1, 5)])
        write_record(record, run)


def read_runs(root: Path) -> str | None:
    """Write the report; the runs that are as they were must be in it."""
    data = read_report([root])
    if len(data.runs) < 2 or not 2 <= len(data.runs) + len(data.broken) <= 3:
        return f"it has {len(data.runs)} runs, and {len(data.broken)} that can't be read"
    names = "can't be read|taken to agree"  # such lines quote the content
    lines = "\n".join(line for line in summary_lines(data) if not re.search(names, line))
    page = write_report(data, root / "report.html").read_text(encoding="utf-8")
    if re.search(r"\b(nan|inf)\b", lines):
        return "its summary has values that are not finite"
    return None if "</html>" in page else "its page is not whole"


# Recipes and other texts ---------------------------------------------------------------------------------------------


def make_recipe(root: Path) -> None:
    """Write a recipe with sections for both commands."""
    from importlib.resources import files

    (root / "recipe.yaml").write_text(files("gvsl").joinpath("recipes/quick.yaml").read_text(encoding="utf-8"))


def read_recipes(root: Path) -> str | None:
    """Read it as both commands do."""
    from gvsl.cli.pretrain import pretrain_options
    from gvsl.cli.transfer import transfer_options

    path = str(root / "recipe.yaml")
    for read, argv in (
        (pretrain_options, ["STORE", "--out", "RUN", "--recipe", path]),
        (transfer_options, ["STORE", "--task", "segmentation", "--weights", "W", "--out", "RUN", "--recipe", path]),
    ):
        with refusals():
            settings = read(argv, lambda text: None).settings
            if not all(np.isfinite(value) for value in _numbers(asdict(settings))):
                return "a setting is not finite"
    return None


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, float):
            yield item
        elif isinstance(item, dict | list | tuple):
            yield from _numbers(item)


def make_listings(root: Path) -> None:
    """Write folders in the layouts that have JSON files; nothing reads their volumes."""
    for layout in ("plain", "decathlon", "nnunet"):
        where = "images" if layout == "plain" else "imagesTr"
        for number in range(4):
            for part in (where, where.replace("images", "labels")):
                name = f"a{number}_0000.nii.gz" if layout == "nnunet" and part == where else f"a{number}.nii.gz"
                path = root / layout / part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"\x1f\x8b not read")

    for number in range(4):
        maps = root / "binary" / f"s{number}" / "segmentations"
        maps.mkdir(parents=True)
        for path in (maps.parent / "ct.nii.gz", maps / "ball.nii.gz", maps / "box.nii.gz"):
            path.write_bytes(b"\x1f\x8b not read")
    rows = ["image_id;split", "s0;train", "s1;train", "s2;val", "s3;test"]
    (root / "binary" / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def write(name: str, value: object) -> None:
        (root / name).write_text(json.dumps(value), encoding="utf-8")

    write("plain/splits.json", {"pretrain": ["a0", "a1"], "train": ["a0"], "val": ["a2"], "test": ["a3"]})
    write("plain/labels.json", {"1": "ball", "2": "box"})
    write("binary/labels.json", {"1": "ball", "2": "box"})
    write("plain/classes.json", {"a0": 0, "a1": 1})
    pairs = [{"image": f"./imagesTr/a{n}.nii.gz", "label": f"./labelsTr/a{n}.nii.gz"} for n in range(4)]
    names = {"0": "background", "1": "ball"}
    write("decathlon/dataset.json", {"modality": {"0": "CT"}, "labels": names, "training": pairs, "test": []})
    listing = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1}, "numTraining": 4}
    write("nnunet/dataset.json", {**listing, "file_ending": ".nii.gz"})
    write("nnunet/splits_final.json", [{"train": ["a0", "a1", "a2"], "val": ["a3"]}])


def read_listings(root: Path) -> str | None:
    """Read each layout."""
    readers: dict[str, Callable[[Path], Dataset]] = {
        "plain": folder,
        "decathlon": partial(decathlon, fold=0),
        "nnunet": partial(nnunet, fold=0),
        "binary": totalsegmentator,
    }
    for name, read in readers.items():
        with refusals():
            dataset = read(root / name)
            if not all(dataset.label_names.values()):
                return f"its label names are {dataset.label_names}"
            for case in dataset.cases:
                if not case.image.is_relative_to(root):
                    return f"it has the image {case.image}"
    return None


def make_predictions(root: Path) -> None:
    """Write the lists of a folder of predictions."""
    ledger = open_ledger(root, {"weights": "0" * 64, "mirror": "false"})
    ledger.begin(["a", "b"], root / "a.nii.gz", "0" * 64)
    with (root / SCORES_NAME).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "score"), ("a", "0.25"), ("'=b", "0.5")])


def read_predictions(root: Path) -> str | None:
    """Read them as a call that goes on."""
    open_ledger(root, {"weights": "0" * 64, "mirror": "false"})
    if (root / LEDGER_NAME).is_file():
        scores = Scores(None, None, root, mirror=False, listed=True)  # type: ignore[arg-type]
        if not all(np.isfinite(float(value)) for value in scores.rows.values()):
            return "a score is not finite"
    return None


# ---------------------------------------------------------------------------------------------------------------------


class refusals:  # noqa: N801 - reads as a sentence
    """Let a refusal pass, so that what comes after it is read too."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Take an error of the user's for an answer."""
        from gvsl.errors import UserError

        return isinstance(error, UserError)


def read_quietly(target: Target, root: Path) -> str | None:
    """Read a mutant without output; return what is wrong with content that was accepted, or was executed."""
    assert TASKS
    with redirect_stdout(StringIO()):
        try:
            problem = target.read(root)
        finally:
            executed = any(root.rglob(EXECUTED))
    return "content was executed" if executed else problem


TARGETS: dict[str, Target] = {
    "volumes": Target(make_volumes, ("*", "*", "dicom/*", "maps/*"), read_volumes, 4, hurt=hurt_volume),
    "stores": Target(make_store, ("store/*.json", "store/cases.jsonl", "store/*/*.b2nd"), read_store, 4, repair=rehash),
    "journals": Target(make_interrupted, ("store/sources.jsonl", "other.partial/*.json*"), read_interrupted, 1),
    "weights": Target(make_weights, ("run/weights/*",), read_weights, 3),
    "elsewhere": Target(make_elsewhere, ("*.pth",), read_elsewhere, 1),
    "published": Target(make_published, ("*.pt",), read_published, 1),
    "heads": Target(make_heads, ("*/head.*",), read_heads, 3),
    "methods": Target(make_method, ("run/record.json", "run/weights/heads.safetensors"), read_method, 1),
    "checkpoints": Target(make_checkpoint, ("last.ckpt",), read_checkpoint, 2),
    "stopped": Target(make_stopped, ("run.part/*",), read_stopped, 3),
    "records": Target(
        make_runs, ("*/record.json", "*/record.json", "*/*.csv", "*/*/*.npz", "*/clusters.json"), read_runs, 5
    ),
    "recipes": Target(make_recipe, ("recipe.yaml",), read_recipes, 2),
    "listings": Target(make_listings, ("*/*.json", "*/*.json", "*/*.csv"), read_listings, 4),
    "predictions": Target(make_predictions, ("*",), read_predictions, 1),
}
