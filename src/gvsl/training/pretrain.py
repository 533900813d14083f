"""A pre-training run, from a store to a folder of weights, curves and checkpoints."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from gvsl.backbones import build_backbone, levels_for
from gvsl.backbones.provenance import LABELS, image_hashes, short_hash
from gvsl.backbones.weights import save_weights
from gvsl.data import PairStream, crop_for
from gvsl.errors import UserError
from gvsl.files import claimed, refuse_existing, remove, whole_folder
from gvsl.hardware import device_facts, find_device, resolve_precision
from gvsl.methods import METHODS, Method
from gvsl.records import CURVES_NAME, RECORD_NAME, RunRecord, environment, read_record, utc_now, write_record
from gvsl.records.comparability import HASH_DIGITS, changes, drew_by_process
from gvsl.settings import effects_of
from gvsl.settings.backbones import BackboneSettings
from gvsl.settings.pretrain import PretrainSettings
from gvsl.store import Store
from gvsl.text import note, one_of
from gvsl.training.checkpoints import CHECKPOINT, has_checkpoint, read_checkpoint, remove_previous
from gvsl.training.loggers import FOLDERS, open_loggers, resolve_loggers
from gvsl.training.metrics_logger import Row
from gvsl.training.team import Team, by_volume, joined
from gvsl.training.trainer import fit

LAST_STEPS = 100
"""Number of steps over which the record's final values are averaged."""
COMMAND = "gvsl pretrain"


def pretrain(
    store: Store, out: Path, settings: PretrainSettings, method: str = "gvsl", resume: bool = False
) -> RunRecord:
    """Pre-train a backbone on a store's volumes, without labels but for those that the method's settings name.

    Writes `out`/record.json, curves.csv, weights/, checkpoints/ and what the loggers write. On the CPU the same seed
    gives the same weights, also if the run was stopped and resumed.

    Args:
        store: with at least two volumes in the split that the settings name.
        out: the run's folder, which must not exist unless `resume`.
        settings: of the run; `pretext` holds the method's own.
        method: a name in `gvsl.methods.METHODS`.
        resume: continue from the last checkpoint in `out`.

    Raises:
        UserError: the method or the pairs don't exist, `out` exists or is being written, or there is nothing to resume.
        DivergedError: the loss or the weights are no longer finite; the checkpoints are of steps before.
        KeyboardInterrupt: the run was stopped; it can be resumed from its last checkpoint.
    """
    with joined(settings.trainer) as team, ExitStack() as held:
        plan = team.each(lambda: _plan(store, settings, method))

        def begin() -> _Begun:
            held.enter_context(claimed(out, COMMAND, deep=(out / RECORD_NAME).is_file()))
            return _begin(plan, out, store, method, resume)

        begun = team.first(begin)
        rows = _train(plan, begun, out, store, team)
        return team.first(lambda: _finish(plan, begun.record, rows, out, store, method))


@dataclass(frozen=True)
class _Plan:
    """What a run's settings come to on a store."""

    settings: PretrainSettings
    network: Method
    loggers: tuple[str, ...]


@dataclass(frozen=True)
class _Begun:
    """A run whose folder holds its record."""

    record: RunRecord
    """With the seconds of earlier calls."""
    checkpoint: Path | None
    """To resume from."""
    first_step: int


def _plan(store: Store, settings: PretrainSettings, method: str) -> _Plan:
    """Check the settings, and fill in those that depend on the store or the hardware."""
    settings = replace(settings, trainer=resolve_precision(settings.trainer))
    settings = _resolve_channels(store, _resolve_levels(store, settings))
    loggers = resolve_loggers(settings.trainer.loggers)
    network = build_method(method, settings)
    return _Plan(_resolve_crop(network, store, settings), network, loggers)


def _begin(plan: _Plan, out: Path, store: Store, method: str, resume: bool) -> _Begun:
    """Check that the run may start or resume, and write its record."""
    settings, network = plan.settings, plan.network
    config = {"method": method, **asdict(settings), "pretext": asdict(network.settings)}
    effects = effects_of(settings)
    checkpoint, first_step = _start(out, config, effects, store, resume, by_volume=by_volume(network))
    stream = PairStream(store, settings.data, settings.seed, first_step, network.labelled)
    config["data"]["crop"] = list(stream.crop)
    try:
        network.backbone.check(stream.crop)
        network.check(stream.crop, len(stream.ids))
    except ValueError as error:
        raise UserError(f"{method}: {error}") from error
    devices = settings.trainer.devices * settings.trainer.nodes
    record = RunRecord(
        kind="pretrain",
        name=out.name,
        seed=settings.seed,
        config=config,
        store={"name": store.path.name, "hash": store.hash},
        created=utc_now(),
        environment=environment(device_facts(find_device(settings.trainer.device), devices)),
        curves=CURVES_NAME,
        spacing=list(store.preprocessing.voxel),
        effects=effects,
        logged=[asdict(metric) for metric in network.logs],
    )
    if resume:
        earlier = read_record(out)
        record.created, record.seconds = earlier.created, earlier.seconds
        write_record(record, out)
    else:
        with whole_folder(out) as folder:
            write_record(record, folder)
    return _Begun(record, checkpoint, first_step)


def _train(plan: _Plan, begun: _Begun, out: Path, store: Store, team: Team) -> list[Row]:
    """Train, and return the logged values; the record counts the seconds, and tells if the run stops or fails."""
    settings, network, record = plan.settings, plan.network, begun.record
    stream = PairStream(store, settings.data, settings.seed, begun.first_step, network.labelled)
    before, began = record.seconds, time.monotonic()
    try:
        with open_loggers(plan.loggers if team.leads else (), out) as opened:
            return fit(network, stream, out, settings, begun.checkpoint, opened, team)
    except BaseException as error:
        record.status = "failed" if isinstance(error, Exception) else "stopped"  # by Ctrl-C or a signal
        raise
    finally:
        record.seconds = before + time.monotonic() - began
        if team.leads and record.status != "running":
            with suppress(OSError):  # on a full disk, that error is the one to report
                write_record(record, out)


def _finish(plan: _Plan, record: RunRecord, rows: Sequence[Row], out: Path, store: Store, method: str) -> RunRecord:
    """Write the weights and the finished record."""
    settings, network = plan.settings, plan.network
    record.metrics = _final_values(rows)
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
            **({LABELS: _contents(store, network.labelled)} if network.labelled else {}),
        },
        heads={name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")},
        learnt_from=image_hashes(store.cases[case].content for case in _learnt_from(store, settings, network)),
    )
    record.status = "finished"
    write_record(record, out)
    remove_previous(out)
    return record


def build_method(method: str, settings: PretrainSettings) -> Method:
    """Return the method on a new backbone, its random weights drawn with the seed.

    Raises:
        UserError: there is no such method, or it can't be built from the settings, in which `levels` is a number.
    """
    one_of(METHODS, "method", method)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            return METHODS[method](build_backbone(settings.backbone), settings.pretext)
    except ValueError as error:
        raise UserError(f"{method}: {error}") from error


def _resolve_channels(store: Store, settings: PretrainSettings) -> PretrainSettings:
    """Return the settings with the store's number of channels; UserError if another one is given."""
    given, channels = settings.backbone.in_channels, store.channel_count
    if given not in (BackboneSettings.in_channels, channels):
        raise UserError(f"backbone.in_channels is {given}, but {store.place} has {channels} channels: leave it out")
    return replace(settings, backbone=replace(settings.backbone, in_channels=channels))


def _resolve_levels(store: Store, settings: PretrainSettings) -> PretrainSettings:
    """Return the settings with a number of levels: that which suits the crop, for `auto`."""
    if settings.backbone.levels != "auto":
        return settings
    # A method that needs a cubic crop takes the shortest side, which alone decides the levels.
    levels = levels_for(crop_for(store, settings.data))
    return replace(settings, backbone=replace(settings.backbone, levels=levels))


def _resolve_crop(network: Method, store: Store, settings: PretrainSettings) -> PretrainSettings:
    """Return the settings with a cubic crop if the method requires one and none is given.

    Raises:
        UserError: the method can't be compiled.
    """
    if settings.trainer.compile and not network.compilable:
        raise UserError("trainer.compile is for GVSL and the restorations, which this method is not: leave it out")
    if not network.cubic or settings.data.crop is not None:
        return settings
    side = min(crop_for(store, settings.data))
    return replace(settings, data=replace(settings.data, crop=(side, side, side)))


def _start(
    out: Path, config: dict[str, Any], effects: Mapping[str, str], store: Store, resume: bool, *, by_volume: bool
) -> tuple[Path | None, int]:
    """Check that a run may start or resume; return the checkpoint that it resumes from and the step it starts at.

    What a run left that was stopped before its first checkpoint makes way for a new one.

    Raises:
        UserError: `out` exists or can't be resumed, or it was begun with other settings or on another store.
    """
    if not resume:
        if is_worthless(out):
            note(f"{out} was stopped before its first checkpoint: starting it again")
            remove(out)
        refuse_existing(out)
        return None, 0
    earlier = read_record(out)
    if earlier.status == "finished":
        raise UserError(f"{out} is finished; there is nothing to resume")
    if not has_checkpoint(out):
        raise UserError(f"{out} holds no {CHECKPOINT} to resume from; remove {out} and start again")
    check_store(out, earlier, store)
    chosen = earlier.config.get("data", {}).get("crop") if config["data"]["crop"] is None else config["data"]["crop"]
    now = config | {"data": config["data"] | {"crop": chosen}}  # without a crop, the store determines it
    if drew_by_process(earlier.config):
        raise UserError(
            f"{out} was begun in several processes by an earlier gvsl, whose random numbers this one does not draw: "
            "start another run"
        )
    changed = changes(earlier.config, now, effects, by_volume=by_volume)
    if changed:
        raise UserError(
            f"{out} was begun with {'; '.join(map(str, changed))}: resume with the earlier value, or start another run"
        )
    found = read_checkpoint(out)
    shared = changes(earlier.config, now, effects)
    if shared:
        note(f"{out} was begun with {'; '.join(map(str, shared))}: the same pairs a step, so equal within rounding")
    return found


def check_store(run: Path, record: RunRecord, store: Store) -> None:
    """Refuse to go on with a run on another store than it was begun on, or on the same one after it has changed.

    Raises:
        UserError: the store's hash is another: that of its cases, voxels and preprocessing.
    """
    name, mark = (str(record.store.get(key, "")) for key in ("name", "hash"))
    if mark == store.hash:
        return
    digits = [found[:HASH_DIGITS] for found in (mark, store.hash)]
    raise UserError(
        f"{run} was begun with store {digits[0]}, now {digits[1]}: {store.place} is another than {name}, was prepared "
        "otherwise, or has changed since; name the store as it was, or start another run"
    )


def is_worthless(run: Path) -> bool:
    """Return True for what a pre-training left that was stopped before its first checkpoint, and nothing else."""
    if not (run / RECORD_NAME).is_file() or has_checkpoint(run):
        return False
    record = read_record(run)
    own = {RECORD_NAME, CURVES_NAME, *FOLDERS.values(), CHECKPOINT.parent.name}
    return record.kind == "pretrain" and record.status != "finished" and {path.name for path in run.iterdir()} <= own


def _learnt_from(store: Store, settings: PretrainSettings, network: Method) -> list[str]:
    """Return the ids of all cases that the method is shown."""
    return PairStream(store, settings.data, settings.seed, labelled=network.labelled).learnt_from()


def _contents(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """Return the short content hash of each of these cases, by id."""
    return {case: short_hash(store.cases[case].content) for case in ids}


def _final_values(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean of each logged value over the last steps, where it was logged."""
    values: dict[str, list[float]] = {}
    for row in rows[-LAST_STEPS:]:
        for name in row.keys() - {"step"}:  # some are logged once an epoch
            values.setdefault(name, []).append(row[name])
    return {f"train/{name}": fmean(found) for name, found in sorted(values.items())}
