"""gvsl transfer: training of a task on labelled cases."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from jsonargparse import Namespace

from gvsl.arguments import (
    add_path,
    add_recipe,
    add_settings,
    early_setting,
    for_mode,
    new_parser,
    parse,
    peek,
    print_note,
    settings_of,
)
from gvsl.argv import Note
from gvsl.cli.output import print_record
from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.settings import RENAMED
from gvsl.settings.backbones import NetworkSettings
from gvsl.settings.carrying import moot_settings, without_moot_settings
from gvsl.settings.names import TASK_SUMMARIES
from gvsl.settings.transfer import LESS, MODES, MOOT, TransferSettings
from gvsl.text import one_of


def transfer(argv: Sequence[str]) -> None:
    """Train on labelled cases for a task, from pre-trained or random weights, and score the test split once.

    Writes RUN: record.json, curves.csv, pictures/, and the network with everything that gvsl predict needs. Until RUN
    is complete, RUN.part holds the checkpoint for --resume. In mode carried, nothing is trained: RUN has the scores of
    labels carried by matching.
    """
    options = transfer_options(argv)
    options.settings = without_moot_recipe(options.settings, options.carry is not None, argv)
    _refuse_moot_options(options.settings.optimiser, argv)
    refuse_existing(options.out)

    from gvsl.backbones.provenance import NOT_KNOWN
    from gvsl.memory import explained_memory, keep_freed_memory
    from gvsl.store import Store
    from gvsl.transfer import part_folder, run_task
    from gvsl.transfer.checkpoint import STATE_NAME

    keep_freed_memory()
    weights = None if options.weights == "scratch" else options.weights
    if weights is not None:
        _check_size(weights, argv, options.settings)
    store = Store.open(options.store)
    try:
        with explained_memory(LESS):
            record = run_task(
                options.task, store, weights, options.out, options.settings, carry=options.carry, resume=options.resume
            )
    except KeyboardInterrupt:
        part = part_folder(options.out)
        fix = "there is no checkpoint yet, so start again"
        if part.is_dir():
            fix = "--resume continues it" if (part / STATE_NAME).is_file() else "the same command continues it"
        raise KeyboardInterrupt(f"{options.out}: {fix}") from None
    if weights is not None:
        print(f"{weights}: {record.config['weights_keys']}")
        print(f"{weights}: {record.config['leakage']}")
        if record.pretraining.get("labels") == NOT_KNOWN:
            print(f"{weights}: labels seen in training: {NOT_KNOWN}")
    if options.carry is not None:
        failed = len(record.config["carry_failed"])
        print(f"{options.carry}: labels on {record.config['carried']} volumes, {failed} of which did not match")
        print(f"{options.carry}: {record.config['carry_leakage']}")
    if "teacher_leakage" in record.config:
        print(f"{options.settings.carrying.teacher}: {record.config['teacher_leakage']}")
    print_record(options.out, record)


def _check_size(weights: str, argv: Sequence[str], settings: TransferSettings) -> None:
    """Refuse a size on the command line that the weights don't have; that of a recipe is for random weights."""
    from gvsl.backbones.compatibility import check_size
    from gvsl.transfer.weights_file import is_weights_file

    network = (f"backbone.{item.name.replace('_', '-')}" for item in fields(NetworkSettings))
    for option in ("width", "levels", *network):
        text = peek(argv, f"--{option}") or peek(argv, f"--{option.replace('-', '_')}")
        if text is None or text == "auto":
            continue
        if is_weights_file(weights):
            raise UserError(f"--{option} is for random weights, and {weights} has its own: leave it out")
        group, _, name = option.replace("-", "_").rpartition(".")
        check_size(weights, option, getattr(settings.backbone if group else settings, name))


def transfer_options(argv: Sequence[str], note: Note = print_note) -> Namespace:
    """Return the options of `gvsl transfer`: store, task, weights, out, and TransferSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    mode = early_setting(argv, "transfer", "mode", TransferSettings.mode)
    usage = (
        "STORE --task NAME --weights RUN|scratch --mode linear|finetune|scratch|carried --out RUN"
        " [--carry RUN] [--recipe NAME|FILE] [--resume] [--SETTING VALUE ...]"
    )
    parser = new_parser(transfer, usage)
    add_path(parser, "store", "STORE", "a folder written by gvsl prepare, with labels, or its URL")
    what = f"the task: {'; '.join(f'{name}, {summary}' for name, summary in TASK_SUMMARIES.items())}"
    parser.add_argument("--task", default="segmentation", metavar="NAME", help=what)
    what = (
        "the folder of a gvsl pretrain run, its model.safetensors, a name on the Hugging Face Hub such as owner/name, "
        "a checkpoint of nnU-Net or nnssl (.pth) or of Models Genesis (.pt), or scratch for random weights"
    )
    parser.add_argument("--weights", required=True, metavar="RUN|scratch", help=what)
    add_path(parser, "--out", "RUN", "the new folder of this run")
    what = (
        "the folder of a gvsl pretrain run of a method that matches: carry the labels of the training cases onto the "
        "unlabelled volumes of pretrain, and also train on those"
    )
    parser.add_argument("--carry", type=Path, default=None, metavar="RUN", help=what)
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="continue RUN from its last checkpoint")
    add_settings(parser, TransferSettings)
    options = parse(parser, argv, lambda settings: for_mode(settings, mode, MODES), note)
    one_of(TASK_SUMMARIES, "task", options.task)
    options.settings = settings_of(TransferSettings, options)
    return options


def _settings_in(argv: Sequence[str]) -> set[str]:
    """Return the names of a command line's options with underscores, whichever way they are spelled."""
    names = {word.removeprefix("--").partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    return {RENAMED.get(name, name) for name in names}


def _refuse_moot_options(optimiser: str, argv: Sequence[str]) -> None:
    """Refuse an option that only the other optimiser has; in a recipe it may be for other modes."""
    for name in MOOT[optimiser]:
        if {name, f"no_{name}"} & _settings_in(argv):
            raise UserError(f"--{name.replace('_', '-')} has no effect with optimiser {optimiser}: leave it out")


def without_moot_recipe(settings: TransferSettings, carries: bool, argv: Sequence[str]) -> TransferSettings:
    """Leave out a recipe's settings of carrying that have no effect here: it may be for runs with --carry as well.

    If the command line has one, they all stay, to be refused by `run_task`.
    """
    words = _settings_in(argv)
    if any(f"carrying.{name}" in words for name in moot_settings(settings.mode, carries)):
        return settings
    return replace(settings, carrying=without_moot_settings(settings.carrying, settings.mode, carries))
