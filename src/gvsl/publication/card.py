"""The model card, README.md: what weights are, how they were made, what they score, and what nobody has checked."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import yaml

from gvsl.backbones import BACKBONES
from gvsl.backbones.compatibility import prepare_options
from gvsl.backbones.provenance import labels_seen
from gvsl.data import DataSettings
from gvsl.methods import METHODS
from gvsl.metrics.bootstrap import MIN_CASES
from gvsl.preprocessing import Preprocessing, parse_preprocessing
from gvsl.preprocessing.spec import format_spacing
from gvsl.publication.figures import Figure, figures
from gvsl.publication.statement import Statement
from gvsl.records import RunRecord
from gvsl.records.comparability import labels_of
from gvsl.report.matching import matching_verdict
from gvsl.report.numbers import number, plural
from gvsl.report.run_findings import run_findings
from gvsl.report.run_metrics import evaluated_split, is_held_out
from gvsl.report.runs import Run
from gvsl.settings.transfer import TransferSettings
from gvsl.text import one_line
from gvsl.training import OptimiserSettings, TrainerSettings

MARKS = re.compile(r"([\\`*_{}\[\]<>|#!~$])")
"""Characters that Markdown gives a meaning."""
HASH_DIGITS = 12
DIGITS, SMALL, SMALL_DIGITS = 3, 0.1, 5
"""Digits of a figure after the point, below what it is small, and those of a small one."""
NOT_STATED = "Not stated by the owner."
PIPELINES = {"segmentation": "image-segmentation", "classification": "image-classification"}
MODES = {
    "scratch": "trained from random weights",
    "linear": "a linear head on frozen features",
    "finetune": "fine-tuned from pre-trained weights",
}
NO_LEAKAGE = "no held-out image was trained on"
"""What a record says of a run without leakage (`gvsl.transfer.leakage`)."""
SETTINGS: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "data": (DataSettings, ("batch_size",)),
    "optimiser": (OptimiserSettings, ("learning_rate", "schedule")),
    "trainer": (TrainerSettings, ("precision",)),
    "": (TransferSettings, ("batch_size", "learning_rate", "loss", "precision")),
}
"""Settings that the card names, by their group in a record's config, where that has them."""


def model_card(
    run: Run, config: Mapping[str, Any], head: Mapping[str, Any], images: int | None, statement: Statement
) -> str:
    """Return the text of a model card.

    Args:
        run: finished.
        config: the config.json that is published.
        head: the head.json that is published; empty for a backbone alone.
        images: number of images that the weights have learnt from, None if unknown.
        statement: the owner's.
    """
    found = figures(run)
    sections = [
        (statement.name.partition("/")[2], _summary(run, config, head)),
        ("How to load it", _loading(head, statement, config["backbone"].get("in_channels", 1))),
        ("What it must be given", _contract(config)),
        ("Method", _method(run, config, head)),
        ("Data", _data(run, config, images, statement)),
        ("Figures", _figures(run, found)),
        ("Limits: what it was not checked on", [f"- {line}" for line in _limits(run, head, bool(found))]),
        ("Licence", [_licence(statement)]),
    ]
    body = [
        line
        for index, (title, lines) in enumerate(sections)
        for line in ("", "#" * min(2, index + 1) + f" {title}", "", *lines)
    ]
    return "\n".join([_front_matter(config, head, statement), *body]) + "\n"


def escaped(text: str) -> str:
    """Return a text from a file as one line of Markdown without markup."""
    return MARKS.sub(r"\\\1", one_line(text))


def _code(text: str) -> str:
    """Return a line of code as Markdown's, between more backticks in a row than it has itself."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"


def _front_matter(config: Mapping[str, Any], head: Mapping[str, Any], statement: Statement) -> str:
    values: dict[str, Any] = {
        "library_name": "gvsl",
        "pipeline_tag": PIPELINES.get(str(head.get("kind")), "image-feature-extraction"),
        "tags": ["medical-imaging", "3d", "self-supervised-learning", f"gvsl-{config['method']}"],
    }
    if statement.licence is not None:
        values["license"] = statement.licence
    return f"---\n{yaml.safe_dump(values, sort_keys=True)}---"


def _summary(run: Run, config: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    values = dict(config["backbone"])
    title = BACKBONES[values.pop("name", "unet")].title
    size = f"{title}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    if not head:
        seen = labels_seen(config["provenance"])
        which = f"with the labels of {len(seen)} cases" if seen else "without labels"
        which = "on labels of cases that are not known" if seen is None else which
        how = f"pre-trained {which} by gvsl's `{config['method']}`"
        return [f"A backbone of 3D medical images ({size}), {how}."]
    how = MODES.get(str(run.record.config.get("mode")), "trained")
    start = "" if config["method"] == "scratch" else f" (pre-trained by `{config['method']}`)"
    return [f"A network for the {head['kind']} of 3D medical images ({size}), {how}{start} with gvsl."]


def _loading(head: Mapping[str, Any], statement: Statement, channels: int) -> list[str]:
    lines = ["```python", "import gvsl", f'backbone = gvsl.load_backbone("{statement.name}")']
    lines += [
        f"features = backbone(volume)  # (1, {channels}, D, H, W), prepared as below: .local and .global_",
        "```",
        "",
    ]
    if head:
        lines += ["The whole network, on image files:", "", "```"]
        lines += [f"hf download {statement.name} --local-dir RUN", "gvsl predict RUN IMAGE.nii.gz --out DIR", "```", ""]
    return [*lines, "Loading executes nothing: the files are tensors (safetensors) and JSON."]


def _contract(config: Mapping[str, Any]) -> list[str]:
    spec = parse_preprocessing(config["preprocessing"])
    names = [f" of channel {escaped(channel.name)}" for channel in spec.channels] or [""]
    rows = [
        ("orientation", f"{spec.orientation}: the axes grow to the right, anterior and superior"),
        ("spacing", f"{format_spacing(spec.spacing)} mm"),
        *((f"intensities{name}", _intensities(own)) for name, own in zip(names, spec.contracts, strict=True)),
        ("crop", spec.crop if spec.crop == "none" else f"{spec.crop}, with a margin of {spec.margin} voxels"),
        ("channels", str(config["backbone"].get("in_channels", 1))),
    ]
    command = _code(f"gvsl prepare SOURCE STORE {prepare_options(spec)}")
    command += " prepares volumes so; `backbone.preprocessing` holds it."
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), "", command]


def _intensities(spec: Preprocessing) -> str:
    ends = f"{spec.lower:g} to {spec.upper:g}"
    what = f"values of {ends}" if spec.intensity == "window" else f"the volume's own percentiles {ends}"
    return f"{what} are mapped to 0 to 1, and clipped"


def _method(run: Run, config: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    factory = METHODS.get(config["method"])
    lines = []
    if factory is not None:
        what, paper = described(config["method"])
        lines = [f"`{config['method']}`: {what}", "", paper, ""]
    provenance = config["provenance"]
    facts = [f"{provenance['steps']} steps"] if "steps" in provenance else []
    facts += [f"seed {provenance['seed']}"] if "seed" in provenance else []
    facts += [f"{name.replace('_', ' ')} {value}" for name, value in _settings(run).items()]
    lines.append(f"Training{' of the network below' if head and factory else ''}: {', '.join(facts)}." if facts else "")
    earlier = provenance.get("weights") or {}
    if earlier.get("steps") is not None:
        lines.append(f"Pre-training: {earlier['steps']} steps, seed {earlier.get('seed', 'unknown')}.")
    trained = provenance.get("pretrained")
    if trained == ["encoder"]:
        lines.append(
            "The pretext trains the encoder alone: the decoder, and so the local features, are as initialised."
        )
    versions = ", ".join(f"{name} {text}" for name, text in provenance.get("versions", {}).items())
    return [*lines, *([f"Versions: {versions}."] if versions else [])]


def described(method: str) -> tuple[str, str]:
    """Return what a method of gvsl learns from, and its paper with a link, from the docstring of its factory."""
    first, *paragraphs = (inspect.getdoc(METHODS[method]) or "").split("\n\n")
    paper = next((one_line(text) for text in paragraphs if "https://" in text), "")
    return one_line(first), paper


def _settings(run: Run) -> dict[str, str]:
    """Return the settings that the card names: numbers, and words that are choices of their setting."""
    found = {}
    for group, (kind, names) in SETTINGS.items():
        values = run.record.config.get(group) if group else run.record.config
        for name in names:
            value = values.get(name) if isinstance(values, dict) else None
            if isinstance(value, int | float) or (
                isinstance(value, str) and value in get_args(get_type_hints(kind)[name])
            ):
                found[name] = str(value)
    return found


def _data(run: Run, config: Mapping[str, Any], images: int | None, statement: Statement) -> list[str]:
    lines = [NOT_STATED if statement.data is None else escaped(statement.data), ""]
    lines.append(
        "Learnt from an unknown number of images." if images is None else f"Learnt from {plural(images, 'image')}."
    )
    if run.record.kind == "transfer":
        labelled, val = labels_of(run.record), run.record.config.get("val_cases")
        used = [f"{plural(labelled, 'labelled case')} to train on"] if labelled is not None else []
        used += [f"{val} to validate on"] if isinstance(val, int) else []
        used += [f"{len(run.record.cases)} to test on"]
        lines.append(f"Of these cohorts: {', '.join(used)}.")
    mark = config["provenance"].get("store", {}).get("hash")
    return [*lines, *([f"Hash of the prepared store: `{mark[:HASH_DIGITS]}`."] if mark else [])]


def _measured_on(record: RunRecord) -> str:
    """Name what the figures are of."""
    if record.kind == "transfer":
        return "test cases"
    if is_held_out(record):
        return "held-out pairs or volumes"
    if evaluated_split(record) is None:
        return "pairs or volumes of which it is not recorded if they were held out"
    return "pairs or volumes that it was trained on, since nothing held out was measured"


def _figures(run: Run, found: Sequence[Figure]) -> list[str]:
    if not found:
        return ["Nothing held out was measured."]
    lines = [f"On {_measured_on(run.record)}: means with 95 % bootstrap intervals over cases, of one seed."]
    lines += ["", "| | mean | 95 % interval | cases |", "|---|---|---|---|"]
    for title, value, interval, cases in found:
        digits = DIGITS if abs(value) >= SMALL else SMALL_DIGITS
        missing = "not recorded" if cases is None or cases >= MIN_CASES else "too few cases"
        ends = missing if interval is None else " to ".join(number(end, digits) for end in interval)
        lines.append(
            f"| {escaped(title)} | {number(value, digits)} | {ends} | {'not recorded' if cases is None else cases} |"
        )
    verdict = matching_verdict(run)
    if verdict is not None:
        lines += [
            "",
            "Compared with other pairs' fields and with blur without motion: " + "; ".join(verdict.sentences) + ".",
        ]
    return lines


def _limits(run: Run, head: Mapping[str, Any], measured: bool) -> Iterator[str]:
    if measured and (run.record.kind == "transfer" or is_held_out(run.record)):
        yield "Checked on held-out cases of one store, and on no other scanner, site, protocol or population."
    else:
        whose = f": the figures are of {_measured_on(run.record)}" if measured else ""
        yield f"Not checked on any held-out case{whose}."
    if measured:
        yield "One run with one seed: the intervals do not include the spread over seeds."
    yield "Modality, region and age are those of the data above; what they lack, such as lesions, was not checked."
    if not head:
        yield "What its features are worth for a task is not measured: compare them with random weights on yours."
    config = run.record.config
    known = {config.get("leakage"), *(config.get(name, NO_LEAKAGE) for name in ("carry_leakage", "teacher_leakage"))}
    if run.record.kind == "transfer" and known != {NO_LEAKAGE}:
        yield "It is not known that no test image was trained on."
    yield "Fairness over sex, age or origin was not measured, nor robustness to artefacts."
    yield "For research: not a medical device, and not for diagnosis or treatment."
    for kind in dict.fromkeys(finding.kind for finding in run_findings(run)):
        yield f"gvsl found: {escaped(kind)}."


def _licence(statement: Statement) -> str:
    if statement.licence is None:
        return "None stated: ask the owner before you use or share these weights."
    return f"`{statement.licence}`, as the owner states. gvsl itself is under Apache-2.0."
