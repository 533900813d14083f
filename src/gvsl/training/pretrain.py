"""One pre-training run, from a store to a folder of weights, curves and checkpoints."""

import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from gvsl.backbones import UNet3D
from gvsl.backbones.provenance import image_hashes
from gvsl.backbones.weights import save_weights
from gvsl.data import PairStream, crop_for, pair_loader, read_crop
from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.hardware import device_facts
from gvsl.methods import METHODS, Method
from gvsl.records import RunRecord, environment, read_record, utc_now, write_record
from gvsl.records.comparability import changes
from gvsl.settings import effects_of
from gvsl.store import Store
from gvsl.training.metrics_logger import Logbook, read_curves
from gvsl.training.module import Epoch, PretrainModule
from gvsl.training.pretrain_settings import PretrainSettings
from gvsl.types import PairBatch

CURVES_NAME = "curves.csv"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
LAST_STEPS = 100
"""Steps over which the record's final values are averaged."""


def pretrain(
    store: Store, out: Path, settings: PretrainSettings, method: str = "gvsl", resume: bool = False
) -> RunRecord:
    """Pre-train a backbone on a store's volumes, without labels.

    Writes `out`/record.json, curves.csv, weights/, checkpoints/ and tensorboard/. The same seed gives the same
    weights on the CPU, also when the run was stopped and resumed.

    Args:
        store: at least two volumes in the split that the settings name.
        out: the run's folder, which must not exist unless `resume`.
        settings: every setting; `pretext` is the method's own.
        method: a name in `gvsl.methods.METHODS`.
        resume: go on from the last checkpoint in `out`.

    Raises:
        UserError: the method or the pairs don't exist, `out` exists, or there is nothing to resume.
        KeyboardInterrupt: the run was stopped; with `resume` it goes on from its last checkpoint.
    """
    network = build_method(method, settings)
    settings = _fitted(network, store, settings)
    config = {"method": method, **asdict(settings), "pretext": asdict(network.settings)}
    effects = effects_of(settings)
    first_step = _first_step(out, config, effects, resume)
    stream = PairStream(store, settings.data, settings.seed, first_step)
    config["data"]["crop"] = list(stream.crop)
    try:
        network.check(stream.crop, len(stream.ids))
    except ValueError as error:
        raise UserError(f"{method}: {error}") from error
    record = RunRecord(
        kind="pretrain",
        name=out.name,
        seed=settings.seed,
        config=config,
        store={"name": store.path.name, "hash": store.hash},
        created=utc_now(),
        environment=environment(_device(settings)),
        curves=CURVES_NAME,
        effects=effects,
        logged=[asdict(metric) for metric in network.logs],
    )
    before = 0.0
    if resume:
        earlier = read_record(out)
        record.created, before = earlier.created, earlier.seconds
    out.mkdir(parents=True, exist_ok=True)
    write_record(record, out)
    began = time.monotonic()
    try:
        logbook = _fit(network, stream, out, settings, resume)
    except BaseException:
        record.status, record.seconds = "failed", before + time.monotonic() - began
        write_record(record, out)
        raise
    record.seconds = before + time.monotonic() - began
    record.metrics = _final_values(logbook)
    save_weights(
        out,
        network.backbone,
        method=method,
        preprocessing=store.preprocessing,
        provenance={
            "store": record.store,
            "steps": settings.trainer.max_steps,
            "seed": settings.seed,
            "versions": record.environment,
            "pretrained": list(network.pretrained),
        },
        heads={name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")},
        learnt_from=image_hashes(store.cases[case].content for case in stream.ids),
    )
    record.status = "finished"
    write_record(record, out)
    return record


def build_method(method: str, settings: PretrainSettings) -> Method:
    """The method on its backbone, with the weights that the seed gives.

    Raises:
        UserError: there is no such method, or the settings don't make one.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            return METHODS[method](UNet3D(**asdict(settings.backbone)), settings.pretext)
    except ValueError as error:
        raise UserError(f"{method}: {error}") from error


def _fitted(network: Method, store: Store, settings: PretrainSettings) -> PretrainSettings:
    """The settings with a cube for a crop, where the method needs one and nobody gave a crop.

    Raises:
        UserError: the method can't be compiled.
    """
    if settings.trainer.compile and "decoder" not in network.pretrained:
        raise UserError(
            "trainer.compile is for methods that train the whole U-Net, which this one doesn't: leave it out"
        )
    if not network.cubic or settings.data.crop is not None:
        return settings
    side = min(crop_for(store, settings.data))
    return replace(settings, data=replace(settings.data, crop=(side, side, side)))


def _epoch(stream: PairStream, least: int) -> Epoch:
    """As many steps as show as many volumes as the split has, or `least`, and its volumes, cropped as in pairs."""
    return Epoch(max(least, -(-len(stream.ids) // (2 * stream.settings.batch_size))), partial(_volumes, stream))


def _volumes(stream: PairStream, rank: int, processes: int) -> Iterator[tuple[str, torch.Tensor]]:
    """A process's share of the split; a function of the module's, since it is sent to other processes."""
    for case in stream.ids[rank::processes]:
        yield case, read_crop(stream.store, case, stream.crop)


def _device(settings: PretrainSettings) -> dict[str, str]:
    """What the trainer computes on."""
    chosen = settings.trainer
    on_gpu = chosen.device != "cpu" and torch.cuda.is_available()
    return device_facts("cuda" if on_gpu else "cpu", chosen.devices)


def _fit(network: Method, stream: PairStream, out: Path, settings: PretrainSettings, resume: bool) -> Logbook:
    chosen = settings.trainer
    logbook = Logbook(out / CURVES_NAME, chosen.log_every, "pre-training")
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    trainer = lightning.Trainer(
        max_steps=chosen.max_steps,
        accelerator={"cuda": "gpu"}.get(chosen.device, chosen.device),
        devices=chosen.devices,
        # Spawned, since a second run of the command line would find its output there; some methods leave the decoder.
        strategy="auto" if chosen.devices == 1 else "ddp_spawn_find_unused_parameters_true",
        precision="bf16-mixed" if chosen.precision == "bf16" else "32-true",
        gradient_clip_val=settings.optimiser.clip_norm,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=[
            logbook,
            *([_Compile()] if chosen.compile else []),
            ModelCheckpoint(
                out / CHECKPOINT.parent,
                filename="last",
                every_n_train_steps=chosen.checkpoint_every,
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    epoch = None if network.min_epoch_steps is None else _epoch(stream, network.min_epoch_steps)
    module = PretrainModule(network, settings.optimiser, settings.seed, chosen.max_steps, epoch)
    on_interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        # The stream starts at the checkpoint's step by itself, and one reading process is enough for small crops.
        known = "resuming from a checkpoint|Checkpoint directory|does not have many workers|LeafSpec"
        warnings.filterwarnings("ignore", message=f".*({known}).*")
        try:
            trainer.fit(
                module,
                datamodule=_Pairs(stream),
                ckpt_path=out / CHECKPOINT if resume else None,
                weights_only=True if resume else None,
            )
        except SystemExit:  # Lightning makes an exit of Ctrl-C and SIGTERM, and has Ctrl-C ignored from then on
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
    if chosen.devices > 1:  # the logbook was kept in another process
        logbook.rows = read_curves(logbook.path)
    return logbook


class _Pairs(lightning.LightningDataModule):
    """The stream, of which each process takes its share."""

    def __init__(self, stream: PairStream) -> None:
        super().__init__()
        self.stream = stream

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """This process's share of each step's pairs."""
        assert self.trainer is not None
        return pair_loader(self.stream.shard(self.trainer.global_rank, self.trainer.world_size))


class _Compile(Callback):
    """Compiles the backbone in the process that trains: what is compiled can't be sent to another."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Do it once."""
        assert isinstance(pl_module, PretrainModule)
        pl_module.method.backbone.compile()


def _first_step(out: Path, config: dict[str, Any], effects: Mapping[str, str], resume: bool) -> int:
    """The step that a run starts at, once it is sure that it may."""
    if not resume:
        refuse_existing(out)
        return 0
    earlier = read_record(out)
    if earlier.status == "finished":
        raise UserError(f"{out} is finished; there is nothing to resume")
    if not (out / CHECKPOINT).is_file():
        raise UserError(f"{out} holds no {CHECKPOINT} to resume from; remove {out} and start again")
    chosen = earlier.config.get("data", {}).get("crop") if config["data"]["crop"] is None else config["data"]["crop"]
    now = config | {"data": config["data"] | {"crop": chosen}}  # a crop that is not given is chosen by the store
    changed = changes(earlier.config, now, effects)
    if changed:
        raise UserError(
            f"{out} was begun with {'; '.join(map(str, changed))}: resume with the earlier value, or start another run"
        )
    return int(torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)["global_step"])


def _final_values(logbook: Logbook) -> dict[str, float]:
    """Each logged value's mean over those of the last steps that have it."""
    values: dict[str, list[float]] = {}
    for row in logbook.rows[-LAST_STEPS:]:
        for name in row.keys() - {"step"}:  # some are logged once an epoch
            values.setdefault(name, []).append(row[name])
    return {f"train/{name}": fmean(found) for name, found in sorted(values.items())}
