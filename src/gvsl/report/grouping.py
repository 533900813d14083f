"""Groups of comparable runs and the arms in them, of which Table 1, the summary and the charts are views.

Runs share a group if they agree in every setting that decides a result (`gvsl.records.comparability`), and, if they
trained on carried labels, in the pre-training of the network that carried. An arm of a group is a method; if runs of
one method were pre-trained differently, each pre-training has an arm of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from gvsl.records.comparability import (
    CARRY,
    LABELS,
    NOT_CARRIED,
    NOT_RECORDED,
    PRETEXT_LABELS,
    deciding,
    describe_seen,
    labels_of,
)
from gvsl.report.numbers import plural
from gvsl.report.run_metrics import mean_of_cases
from gvsl.report.runs import Run
from gvsl.report.scores import Spread, case_ids, difference, of_common_seeds, scores, spread
from gvsl.settings import flatten

RANDOM = "random"
"""The arm of features that were never trained."""
SCRATCH = "scratch"
"""The name of that arm in Table 1 and in the charts, and of its method in a record."""
OURS = "gvsl"
MODES = {"linear": "linear", "finetune": "finetune", "scratch": "finetune", "carried": "carried"}
"""The protocol of a run's mode: training from scratch is the baseline of fine-tuning."""
STUDENT, TRANSDUCTIVE, CARRIED = "student", "transductive student", "carried"
"""The protocols that use carried labels: training on them too, of training volumes alone or of those that are scored
as well, and scoring them."""
WITH_CARRIED = (STUDENT, TRANSDUCTIVE, CARRIED)
PROTOCOL_NAMES = {
    "linear": "linear evaluation",
    "finetune": "fine-tuning",
    "pretrain": "pre-training",
    STUDENT: "students of carried labels",
    TRANSDUCTIVE: "students of carried labels, also of the images that are scored",
    CARRIED: "carried labels",
}
CLASSIFICATIONS = ("classification", "ccc")
"""Tasks that are scored by the AUC."""
WEIGHTS_FILES = ("weights", "model.safetensors")
"""The possible ends of a path to weights, after the folder of the run that made them."""
STEPS, STORE = "trainer.max_steps", "store"
LABELS_SEEN = "labels seen"
"""In the settings of a pre-training: those that it or what it began from saw, which another draw has others of."""
HASH_LENGTH = 6

Settings = dict[str, str]


class Member(NamedTuple):
    """A run and its arm."""

    run: Run
    arm: str
    carrier: str = ""
    """What differs in the pre-training of the network that carried its labels; empty for the usual one."""


@dataclass(frozen=True)
class Group:
    """Runs of one store, protocol and metric that are compared."""

    store: str
    protocol: str
    """That of `protocol_of`."""
    metric: str
    """`DSC` or `AUC`."""
    settings: str
    """The settings that separate this group from those of the same store, protocol and metric; may be empty."""
    arms: dict[str, list[Run]]
    """The finished runs of each arm, by seed; random features first."""
    labels: int | None = None
    """Labelled training cases; None if the records don't tell."""
    labels_vary: bool = False
    """True if another group of the same store, protocol and metric has another number of labels."""
    failed: dict[str, int] = field(default_factory=dict)
    """The number of failed runs of each arm."""
    note: str = ""
    """The settings in which the runs of a chart differ; may be empty."""

    @property
    def methods(self) -> list[str]:
        """The arms with pre-trained features."""
        return [name for name in self.arms if name != RANDOM]

    @property
    def runs(self) -> list[Run]:
        """All finished runs of the group."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def cases(self) -> list[str]:
        """The cases that all runs have scored."""
        return case_ids(self.runs)

    def lead(self, method: str, key: str = "dice") -> Spread:
        """Return the difference of a method to random features in a metric, over common cases and seeds."""
        return difference(self.arms[method], self.arms[RANDOM], self.cases, key)

    def compared(self, method: str) -> dict[str, list[Run]]:
        """Return the runs on random features and the method's, of common seeds; only the method's if there are none."""
        random, mine = of_common_seeds(self.arms.get(RANDOM, []), self.arms[method])
        return {RANDOM: random, method: mine} if mine else {method: self.arms[method]}

    def spread(self, runs: Sequence[Run], key: str = "dice") -> Spread:
        """Return the spread of some of the runs' scores over the common cases."""
        return spread(scores(runs, self.cases, key))

    @property
    def can_be_compared(self) -> bool:
        """True if the group has both random and pre-trained features."""
        return RANDOM in self.arms and len(self.arms) > 1

    @property
    def conditions(self) -> str:
        """The number of labels and the settings that separate the group from others; may be empty."""
        return ", ".join(filter(None, ["" if self.labels is None else plural(self.labels, "label"), self.settings]))

    @property
    def name(self) -> str:
        """Protocol and conditions."""
        return f"{self.protocol}, {self.conditions}" if self.conditions else self.protocol

    @property
    def title(self) -> str:
        """The heading of the group's chart."""
        name = f"{self.store}: {PROTOCOL_NAMES.get(self.protocol, self.protocol)}"
        return f"{name}, {self.settings}" if self.settings else name

    @property
    def notes(self) -> str:
        """The note, and the arms with several runs of one seed."""
        return f"{self.note} {repeats_note(self.arms)}".strip()

    @property
    def partly_recorded(self) -> list[str]:
        """Settings that only some of the runs' records state; the others are older."""
        control = self.arms.get(RANDOM, []) if self.protocol == CARRIED else []  # it has no start to refine
        known = [deciding(run.record) for run in self.runs if run not in control]
        return sorted({name for one in known for name in one if not all(name in other for other in known)})


def groups(runs: Sequence[Run]) -> list[Group]:
    """Sort transfer runs into groups of comparable ones, those with a baseline first.

    Runs that differ in a deciding setting never share a group. A failed run that recorded no settings joins the first
    group that it may belong to.

    Args:
        runs: the transfers, and the pre-trainings that their arms are named by.
    """
    usable = [member for member in members(runs) if member.run.record.kind == "transfer" and _counts(member.run)]
    found = []
    for kind, alike in _by_kind(usable).items():
        for settings, part in partition(alike):
            finished = [member for member in part if member.run.record.status == "finished"]
            counts = [count for member in part if (count := labels_of(member.run.record)) is not None]
            found.append(
                Group(
                    *kind,
                    settings=", ".join(f"{name} {value}" for name, value in settings.items() if name != LABELS),
                    arms=_arms(finished, (RANDOM,)),
                    labels=counts[0] if counts else None,
                    labels_vary=LABELS in settings,
                    failed=dict(Counter(member.arm for member in part if member.run.record.status == "failed")),
                )
            )
    return sorted(
        found,
        key=lambda group: (not group.can_be_compared, group.store, group.protocol, group.labels or 0, group.settings),
    )


def chart_groups(
    runs: Iterable[Run], shown: Callable[[Run], bool] = lambda run: True, min_arms: int = 2, vary: Sequence[str] = ()
) -> tuple[list[Group], list[Run]]:
    """Sort runs into groups that share a chart.

    Of the runs of one store, protocol and metric, those that agree in every deciding setting share a group if it has
    enough arms. The others are charted together, with a note of the settings in which they differ. The arm of random
    features is named `scratch`; it comes first, then `gvsl`.

    Args:
        runs: all runs, also the pre-trainings that the arms are named by.
        shown: returns True for the finished runs to chart.
        min_arms: the number of arms that a group needs.
        vary: deciding settings that may differ within a group.

    Returns:
        The groups, and the runs that are in none for lack of others to compare with.
    """
    found, alone = [], []
    known = [member for member in members(list(runs)) if shown(member.run)]
    usable = [member._replace(arm=SCRATCH) if member.arm == RANDOM else member for member in known]
    for kind, alike in sorted(_by_kind(usable).items()):
        parts = partition(alike, vary)
        whole = [part for part in parts if len({member.arm for member in part[1]}) >= min_arms]
        varying = _varying([settings for settings, _ in whole])
        for settings, part in whole:
            text = ", ".join(f"{name} {settings[name]}" for name in varying)
            found.append(Group(*kind, text, _arms(part, (SCRATCH, OURS))))
        left = [part for part in parts if part not in whole]
        rest = [member for _, part in left for member in part]
        if len({member.arm for member in rest}) >= min_arms:
            note = f"These runs differ in more than their weights: {', '.join(_varying([one for one, _ in left]))}."
            text = "other settings" if whole else ""
            found.append(Group(*kind, text, _arms(rest, (SCRATCH, OURS)), note=note))
        else:
            alone += [member.run for member in rest]
    return found, alone


def partition(alike: Sequence[Member], vary: Sequence[str] = ()) -> list[tuple[Settings, list[Member]]]:
    """Sort runs of one store and protocol into parts that agree in every deciding setting.

    A failed run that lacks settings joins the first part that it may belong to.

    Returns:
        Each part with the settings that separate it from the others.
    """
    known = [{name: value for name, value in _settings_of(each).items() if name not in vary} for each in alike]
    parts: dict[tuple[tuple[str, str], ...], list[Member]] = {}
    incomplete = []
    for member, settings in zip(alike, separating(known), strict=True):
        if member.run.record.status == "failed" and NOT_RECORDED in settings.values():
            incomplete.append((member, settings))
        else:
            parts.setdefault(tuple(settings.items()), []).append(member)
    for member, settings in incomplete:
        fitting = (key for key in sorted(parts) if all(settings[name] in (value, NOT_RECORDED) for name, value in key))
        parts.setdefault(next(fitting, tuple(settings.items())), []).append(member)
    return [(dict(key), part) for key, part in parts.items()]


def _settings_of(member: Member) -> Settings:
    """Return the deciding settings of a run, with what differs in the pre-training that carried its labels."""
    found = deciding(member.run.record)
    return found | {CARRY: f"{found.get(CARRY, NOT_RECORDED)} ({member.carrier})"} if member.carrier else found


def separating(settings: Sequence[Mapping[str, str]]) -> list[Settings]:
    """Return for each run the settings that separate it from another run.

    A setting that a record lacks is "not recorded". If all other records agree in it, the run is taken to agree too.
    """
    varying = _varying(settings)
    return [{name: one.get(name, NOT_RECORDED) for name in varying} for one in settings]


def members(runs: Sequence[Run]) -> list[Member]:
    """Return every run with its arm: `random`, or its method and what differs in its pre-training.

    Transfer runs on one store of one method are separate arms if their pre-training differed in a deciding setting, in
    its store or in the labels that it saw: `gvsl`, `gvsl (2400 steps)`. What most of them have goes unmentioned. What
    differs in the pre-trainings that carried labels is told in the same way.
    """
    pretrained = [run for run in runs if run.record.kind == "pretrain"]
    stores = {run.record.store.get("hash", ""): run.store for run in runs}
    arms, carriers = [arm_of(run) for run in runs], [""] * len(runs)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    carried: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (run, arm) in enumerate(zip(runs, arms, strict=True)):
        if run.record.kind == "transfer" and arm != RANDOM:
            alike[run.store, arm].append(index)
        if protocol_of(run) in (STUDENT, TRANSDUCTIVE):
            carried[run.store, str(run.record.config[CARRY])].append(index)
    for indices in alike.values():
        variants = _variants([_pretraining(runs[index], pretrained, stores) for index in indices])
        for index, variant in zip(indices, variants, strict=True):
            arms[index] += f" ({variant})" if variant else ""
    for indices in carried.values():
        variants = _variants([_carrier(runs[index], pretrained) for index in indices])
        for index, variant in zip(indices, variants, strict=True):
            carriers[index] = variant
    return [Member(*each) for each in zip(runs, arms, carriers, strict=True)]


def repeats_note(arms: Mapping[str, Sequence[Run]]) -> str:
    """Return a sentence on the arms with several runs of one seed; empty if there are none."""
    repeated = [name for name, runs in arms.items() if len({run.record.seed for run in runs}) < len(runs)]
    return f"Several runs of one seed, which count as their mean: {', '.join(repeated)}." if repeated else ""


def arm_of(run: Run) -> str:
    """Return `random` for a transfer without pre-trained weights, else the name of the method."""
    config = run.record.config
    untrained = run.record.kind == "transfer" and SCRATCH in (config["weights"], config["mode"])
    return RANDOM if untrained else str(config.get("method", run.label))


def protocol_of(run: Run) -> str:
    """Return the protocol of a run.

    It is `pretrain`, `linear`, `finetune`, to which training from scratch belongs, `student`, the same on carried
    labels too, `transductive student`, on those of val and test among them, or `carried`, carried labels themselves.
    """
    if run.record.kind == "pretrain":
        return "pretrain"
    config, mode = run.record.config, str(run.record.config.get("mode"))
    if config.get(CARRY, NOT_CARRIED) == NOT_CARRIED:
        return MODES.get(mode, mode)
    carrying = config.get("carrying")
    return TRANSDUCTIVE if isinstance(carrying, dict) and carrying.get("transductive") else STUDENT


def metric_of(run: Run) -> str:
    """Return the test metric of a run, `DSC` or `AUC`; a record without cases or task is of segmentation."""
    if run.record.kind == "transfer" and run.record.cases:
        return "DSC" if mean_of_cases(run, "dice") is not None else "AUC"
    return "AUC" if run.record.config.get("task") in CLASSIFICATIONS else "DSC"


def pretraining_of(run: Run, pretrained: Iterable[Run]) -> Run | None:
    """Return the run that made a transfer run's weights, or None if it is not among those given."""
    return _made_by(str(run.record.config["weights"]), run.record.config["method"], pretrained)


def _made_by(path: str, method: Any, pretrained: Iterable[Run]) -> Run | None:
    """Return the pre-training that a path to weights or a run means, or None.

    It is recognised by its method and by its folder: the one that shares the longest end with the path.
    """
    wanted = Path(path).parts
    while wanted and wanted[-1] in WEIGHTS_FILES:
        wanted = wanted[:-1]
    by_length: dict[int, list[Run]] = defaultdict(list)
    for other in pretrained:
        if other.record.config.get("method", method) == method:
            ends = zip(reversed(other.folder.parts), reversed(wanted), strict=False)
            by_length[len(list(takewhile(lambda pair: pair[0] == pair[1], ends)))].append(other)
    longest = max(by_length, default=0)
    return by_length[longest][0] if longest and len(by_length[longest]) == 1 else None


def _pretraining(run: Run, pretrained: Iterable[Run], stores: Mapping[str, str]) -> tuple[str, Settings]:
    """Return an identity and the known settings of a transfer run's pre-training.

    They come from the pre-training's own record, or from the transfer's if the former is not among the runs.
    """
    found, facts = pretraining_of(run, pretrained), run.record.pretraining
    if found is not None:
        seen = facts.get("labels") or flatten(found.record.config).get(PRETEXT_LABELS)
        return str(found.folder), _settings_but_labels(found) | {LABELS_SEEN: describe_seen(run.record, seen)}
    known = {STEPS: str(facts["steps"])} if "steps" in facts else {}
    mark = str(facts.get("store", ""))
    known |= {STORE: stores.get(mark, mark[:HASH_LENGTH])} if mark else {}
    known |= {LABELS_SEEN: describe_seen(run.record, facts.get("labels"))} if facts else {}
    return str(run.record.config["weights"]), known


def _carrier(run: Run, pretrained: Iterable[Run]) -> tuple[str, Settings]:
    """Return an identity and the known settings of the pre-training that carried a run's labels.

    Its method, steps and the labels that it saw are among the run's own settings. The others are in its record.
    """
    path = str(run.record.config.get("carry_run", ""))
    found = _made_by(path, run.record.config[CARRY], pretrained)
    if found is None:
        return path, {}
    return str(found.folder), {name: value for name, value in _settings_but_labels(found).items() if name != STEPS}


def _settings_but_labels(pretrained: Run) -> Settings:
    """Return the deciding settings of a pre-training and its store, without the labels that it saw."""
    settings = deciding(pretrained.record) | {STORE: pretrained.store}
    return {name: value for name, value in settings.items() if name != PRETEXT_LABELS}


def _variants(pretrainings: Sequence[tuple[str, Settings]]) -> list[str]:
    """Return how each pre-training differs from the usual one; empty for the usual one."""
    known = {name: settings for name, settings in pretrainings if settings}
    differing = dict(zip(known, separating(list(known.values())), strict=True))
    usual = _usual(list(differing.values()))
    texts = {}
    for name, settings in differing.items():
        odd = {key: value for key, value in settings.items() if value not in (usual.get(key), NOT_RECORDED)}
        texts[name] = ", ".join(_setting_text(key, value) for key, value in odd.items())
    named = dict(texts)
    for name, settings in differing.items():  # of two that differ only in what one of them doesn't record
        blank = ", ".join(key for key, value in settings.items() if value == NOT_RECORDED)
        if blank and any(texts[name] == texts[other] and settings != differing[other] for other in texts):
            named[name] = f"{texts[name]}, {blank} not recorded".removeprefix(", ")
    unknown = "pre-training not among the runs" if known else ""
    return [named.get(name, unknown) for name, _ in pretrainings]


def _usual(settings: Sequence[Settings]) -> Settings:
    """Return the commonest recorded value of each setting that has one."""
    found = {}
    for name in sorted({name for one in settings for name in one}):
        counts = Counter(one[name] for one in settings if one[name] != NOT_RECORDED).most_common(2)
        if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            found[name] = counts[0][0]
    return found


def _setting_text(name: str, value: str) -> str:
    return f"{value} steps" if name == STEPS else f"{name.partition('.')[2] or name} {value}"


def _varying(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the settings in which records that state them disagree, sorted."""
    names = sorted({name for one in settings for name in one})
    return [name for name in names if len({one[name] for one in settings if name in one}) > 1]


def _counts(run: Run) -> bool:
    """Return True for a finished run with scores, or a failed run."""
    scored = mean_of_cases(run, "dice") is not None or mean_of_cases(run, "score") is not None
    return run.record.status == "failed" or (run.record.status == "finished" and scored)


def _by_kind(usable: Iterable[Member]) -> dict[tuple[str, str, str], list[Member]]:
    """Return the runs of each store, protocol and metric."""
    found: dict[tuple[str, str, str], list[Member]] = defaultdict(list)
    for member in usable:
        found[member.run.store, protocol_of(member.run), metric_of(member.run)].append(member)
    return found


def _arms(part: Iterable[Member], first: Sequence[str]) -> dict[str, list[Run]]:
    """Return the runs of each arm by seed, the arms named first before the others."""
    found: dict[str, list[Run]] = defaultdict(list)
    for member in sorted(part, key=lambda member: member.run.record.seed):
        found[member.arm].append(member.run)
    names = [*(name for name in first if name in found), *sorted(found.keys() - set(first))]
    return {name: found[name] for name in names}
