"""The columns of Table 1: which transfer runs may stand in one, and what sets a column apart from the next."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gvsl.records import RunRecord

SCRATCH = "scratch"
CLASSIFICATIONS = ("classification", "ccc")
"""The tasks whose figure is the AUC."""
MODES = {"linear": "linear", "finetune": "finetune", "scratch": "finetune"}
"""The column that a run's mode belongs to: training from scratch is what fine-tuning is compared with."""
UNDECIDING = (
    *("mode", "labels", "task", "method", "seed", "weights", "weights_keys"),  # in the key, or different by design
    *("train_cases", "val_cases", "test_cases"),  # follow from store, labels and seed
    *("clusters", "device", "cache_gigabytes", "checkpoint_every"),  # change no score
    *("allow_leakage", "leakage"),  # follow from the weights
    *("reason", "traceback"),  # of a run that failed
)
"""What a record's config has beside the settings that must agree within a column."""
LATER = {"augmentation": "none"}
"""Settings that older records lack, and what they stood at."""
UNTOLD = "not recorded"
PAST = ("steps", "store")
"""What a record tells of its weights' training that must agree too; a run of another seed has other weights."""
SHOWN = 6
"""Characters of a store's hash."""

Settings = dict[str, str]
"""Names and values, as they are said."""


class ColumnKey(NamedTuple):
    """One column."""

    mode: str
    store: str
    """The store's name, with the beginning of its hash where another store has the same name."""
    metric: str
    """`DSC` or `AUC`."""
    labels: int | None = None
    """Labelled training cases that were drawn; None for all that the split has."""
    settings: str = ""
    """The settings that set the column apart from others of its kind, or nothing."""

    @property
    def title(self) -> str:
        """What the column holds, but for the metric."""
        labels = "" if self.labels is None else f", {self.labels} labels"
        return f"{self.store}, {self.mode}{labels}" + (f", {self.settings}" if self.settings else "")


def column_of(record: RunRecord) -> tuple[str, ColumnKey] | None:
    """The method of a record and its column before columns are told apart; None if it is no transfer."""
    mode = MODES.get(str(record.config.get("mode")))
    if record.kind != "transfer" or mode is None:
        return None
    if record.cases:
        metric = "DSC" if "dice" in record.cases[0] else "AUC"
    else:
        metric = "AUC" if record.config.get("task") in CLASSIFICATIONS else "DSC"
    labels = record.config.get("labels")
    drawn = labels if isinstance(labels, int) else None
    return str(record.config["method"]), ColumnKey(mode, record.store["name"], metric, drawn)


def sorted_into_columns(records: Iterable[RunRecord]) -> dict[ColumnKey, list[RunRecord]]:
    """The transfer runs by column: of one store, and of settings that agree in all that decides a score.

    Runs on features without pre-training stand in every column whose other settings are theirs. A run that failed
    before its settings were recorded stands in the first that it may belong to.
    """
    stores: dict[str, set[str]] = defaultdict(set)
    whole: dict[tuple[ColumnKey, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        place = column_of(record)
        if place is not None:
            name, mark = record.store["name"], record.store.get("hash", "")
            stores[name].add(mark)
            whole[place[1], mark].append(record)
    columns = {}
    for (key, mark), members in whole.items():
        store = key.store if len(stores[key.store]) == 1 else f"{key.store} ({mark[:SHOWN]})"
        for settings, part in _told_apart(members):
            columns[key._replace(store=store, settings=settings)] = part
    return columns


def deciding(record: RunRecord) -> Settings:
    """What must agree within a column: the settings of the transfer, and what is known of the weights' training."""
    found = LATER | {name: value for name, value in record.config.items() if name not in UNDECIDING}
    said = {name: json.dumps(value, default=str).strip('"').replace("null", "none") for name, value in found.items()}
    past = {f"pre-training {name}": record.pretraining[name] for name in PAST if name in record.pretraining}
    return said | {name: str(value)[:SHOWN] if name.endswith("store") else str(value) for name, value in past.items()}


def _told_apart(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The records in parts that agree, each with the settings in which it differs from the other parts."""
    known = [deciding(record) for record in records]
    names = sorted({name for one in known for name in one})
    varying = [name for name in names if len({one[name] for one in known if name in one}) > 1]
    told = [_restricted(record, one, varying) for record, one in zip(records, known, strict=True)]
    parts: list[Settings] = []
    for one in sorted(told, key=lambda one: (-len(one), json.dumps(one, sort_keys=True))):
        if not any(_agree(one, part) for part in parts):
            parts.append(one)
    members: list[list[RunRecord]] = [[] for _ in parts]
    for record, one in zip(records, told, strict=True):
        places = [place for place, part in enumerate(parts) if _agree(one, part)]
        for place in places[:1] if _is_untold(record) else places:
            members[place].append(record)
    said = (", ".join(f"{name} {value}" for name, value in part.items()) for part in parts)
    return list(zip(said, members, strict=True))


def _restricted(record: RunRecord, known: Settings, varying: Iterable[str]) -> Settings:
    """The varying settings that hold for a record: features without pre-training have none of its."""
    past = record.config.get("method") != SCRATCH
    return {
        name: known.get(name, UNTOLD)
        for name in varying
        if not _is_untold(record) and (past or name in known or not name.startswith("pre-training "))
    }


def _is_untold(record: RunRecord) -> bool:
    """Whether it is of a run that failed before there was anything to tell of its settings."""
    return record.status == "failed" and not record.config.keys() - set(UNDECIDING)


def _agree(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two agree in all that both state."""
    return all(other.get(name, value) == value for name, value in one.items())
