"""The commands, nothing else: words on a command line -> typed settings -> one call into the package.

What is heavy (torch, Lightning) is imported by the command that needs it, so that help and mistakes answer at
once.
"""

import argparse
import difflib
import errno
import inspect as signatures
import json
import logging
import os
import re
import shlex
import sys
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from gvsl.errors import UserError
from gvsl.files import refuse_existing
from gvsl.progress import progress
from gvsl.results import RunRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = Callable[[Sequence[str]], None]
Settings = TypeVar("Settings", bound="DataclassInstance")

TASKS = ("segmentation",)
RECIPE_COMMANDS = ("pretrain", "transfer")
USUAL = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)
"""What a path or a disk may refuse: the user's to mend, so it is said in one line."""
NEVER_IN_RECIPES = {"--help", "--out", "--recipe", "--resume", "--weights"}
"""What belongs to one run, not to a recipe."""
DEMO_CASES = 24
DEMO_SHAPE = (32, 32, 32)
DEMO_SEEDS = (0, 1)
OVERVIEW = """usage: gvsl COMMAND ...

Pre-train 3D medical image networks without labels, by matching scans of different subjects.

{commands}

gvsl COMMAND --help says how to use one. Start with: gvsl demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        run(words)
        sys.stdout.flush()
    except UserError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe, `| head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno not in USUAL:
            raise
        return _complain(f"{error.filename or 'the output'}: {error.strerror}")
    except KeyboardInterrupt as stop:
        print("gvsl: stopped", *stop.args, file=sys.stderr)
        return 130
    return 0


def run(words: Sequence[str]) -> None:
    """Run the command that `words` spell.

    Raises:
        UserError: there is no such command, its arguments are wrong, or it can't do what they ask.
    """
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        lines = (f"  {command:<10} {_summary(function)}" for command, function in COMMANDS.items())
        print(OVERVIEW.format(commands="\n".join(lines)), end="")
    elif name == "--version":
        print(f"gvsl {version('gvsl')}")
    elif name in COMMANDS:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        COMMANDS[name](words[1:])
    else:
        raise UserError(f"there is no command {name}{_nearest(name, COMMANDS)}; gvsl --help lists them")


# --- the commands -------------------------------------------------------------------------------------------


def demo(words: Sequence[str]) -> None:
    """Show everything on a phantom: store, pre-training, a linear probe against random features, report.

    Prints each step as you would type it, and at the end where the report is and what it says. Takes under
    five minutes on two cores; nothing is downloaded.
    """
    parser = _parser(demo, "[--out DIR] [--recipe NAME|FILE]")
    what = "the new folder for all of it"
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help=what)
    _add_recipe(parser, default="demo")
    options = _parse(parser, words)
    refuse_existing(options.out)
    _read_recipe(options.recipe, "pretrain")  # a recipe that isn't there is said before anything is made
    _demo(options.out, options.recipe)


def prepare(words: Sequence[str]) -> None:
    """Turn a folder of volumes or a public dataset into a store, once.

    SOURCE is a folder with images/*.nii.gz (and labels/ of the same names, splits.json and labels.json where
    there are any), or a flat folder of NIfTI files. A file that can't be used is refused by name and the rest
    goes on; gvsl inspect lists what was refused and why.
    """
    from gvsl.datasets import DATASETS
    from gvsl.store import PRESETS, Preprocessing
    from gvsl.store import prepare as prepare_store

    preset = _one_of(PRESETS, "preset", _peek(words, "--preset") or "mr")
    parser = _parser(prepare, "SOURCE STORE [--dataset NAME] [--preset NAME] [--any.setting VALUE]")
    _add_path(parser, "source", "SOURCE", "the folder that holds the volumes")
    _add_path(parser, "store", "STORE", "the new folder to write")
    how = f"how SOURCE is laid out: {_listed(DATASETS)}"
    parser.add_argument("--dataset", default="folder", metavar="NAME", help=how)
    kinds = f"the kind of scan, which decides the defaults below: {_listed(PRESETS)}"
    parser.add_argument("--preset", default=preset, metavar="NAME", help=kinds)
    parser.add_argument("--jobs", type=int, default=1, help="processes to prepare with; -1 for one a core")
    parser.add_class_arguments(Preprocessing, default=asdict(PRESETS[preset]))
    options = _parse(parser, words)
    load = DATASETS[_one_of(DATASETS, "dataset", options.dataset)]
    settings = _settings(Preprocessing, options)
    refuse_existing(options.store)
    dataset = load(options.source)
    with progress(len(dataset.cases), "Prepare", "volumes") as advance:
        store = prepare_store(
            dataset.cases,
            options.store,
            settings,
            label_names=dataset.label_names,
            source=dataset.name,
            jobs=options.jobs,
            progress=advance,
        )
    print(f"{options.store}: {len(store.cases)} volumes prepared, {len(store.refused)} refused")
    if store.refused:
        print(f"gvsl inspect {shlex.quote(str(options.store))} says which were refused, and why")


def inspect(words: Sequence[str]) -> None:
    """Say what is in a store, how it was prepared, and what was refused and why."""
    from gvsl.store import Store, describe

    parser = _parser(inspect, "STORE")
    _add_path(parser, "store", "STORE", "a folder that gvsl prepare made")
    print(describe(Store.open(_parse(parser, words).store)))


def pretrain(words: Sequence[str]) -> None:
    """Pre-train a backbone on a store's `pretrain` split, without labels.

    Writes RUN/weights (safetensors, and a config that says where they come from), RUN/record.json,
    RUN/curves.csv and the checkpoints that --resume goes on from.
    """
    options = pretrain_options(words)
    if not options.resume:
        refuse_existing(options.out)

    from gvsl.evaluation import evaluate_pretraining
    from gvsl.store import Store
    from gvsl.training import pretrain as train
    from gvsl.training.pretrain import CHECKPOINT

    # Lightning announces hardware that isn't there and services that nobody asked for.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    store = Store.open(options.store)
    try:
        train(store, options.out, options.settings, options.method, options.resume)
    except KeyboardInterrupt:
        resumable = (options.out / CHECKPOINT).is_file()
        mend = "--resume goes on with it" if resumable else "there is no checkpoint yet, so start again"
        raise KeyboardInterrupt(f"{options.out}: {mend}") from None
    _print_record(options.out, evaluate_pretraining(options.out, store))


def pretrain_options(words: Sequence[str]) -> Namespace:
    """What `gvsl pretrain` was told: store, out, method, resume, and PretrainSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.methods import METHODS
    from gvsl.training.settings import PretrainSettings

    asked = _peek(words, "--method") or _recipe_setting(words, "pretrain", "method") or "gvsl"
    method = _one_of(METHODS, "method", asked)
    usage = "STORE --out RUN [--method NAME] [--recipe NAME|FILE] [--resume] [--any.setting VALUE]"
    parser = _parser(pretrain, usage)
    _add_path(parser, "store", "STORE", "a folder that gvsl prepare made")
    _add_path(parser, "--out", "RUN", "the new folder of this run")
    what = f"how to learn: {_listed(METHODS)}"
    parser.add_argument("--method", default=method, metavar="NAME", help=what)
    _add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with RUN where it stopped")
    parser.add_class_arguments(PretrainSettings, skip={"pretext"})
    parser.add_class_arguments(_pretext_type(METHODS[method]), "pretext")
    options = _parse(parser, words)
    options.settings = _settings(PretrainSettings, options)
    return options


def transfer(words: Sequence[str]) -> None:
    """Train a task on labelled cases, from pre-trained or random weights, and score the test split once."""
    options = transfer_options(words)
    refuse_existing(options.out)

    from gvsl.evaluation import transfer as evaluate
    from gvsl.store import Store

    weights = None if options.weights == "scratch" else Path(options.weights)
    record = evaluate(Store.open(options.store), weights, options.out, options.settings)
    _print_record(options.out, record)


def transfer_options(words: Sequence[str]) -> Namespace:
    """What `gvsl transfer` was told: store, task, weights, out, and TransferSettings as `settings`.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    from gvsl.transfer.settings import TransferSettings

    usage = (
        "STORE --task NAME --weights RUN|scratch --mode linear|finetune|scratch --out RUN"
        " [--recipe NAME|FILE] [--any.setting VALUE]"
    )
    parser = _parser(transfer, usage)
    _add_path(parser, "store", "STORE", "a folder that gvsl prepare made, with labels")
    what = f"what to learn: {_listed(TASKS)}"
    parser.add_argument("--task", default=TASKS[0], metavar="NAME", help=what)
    what = "the folder of a gvsl pretrain run, or the word scratch for random weights"
    parser.add_argument("--weights", required=True, metavar="RUN|scratch", help=what)
    _add_path(parser, "--out", "RUN", "the new folder of this run")
    _add_recipe(parser)
    parser.add_class_arguments(TransferSettings)
    options = _parse(parser, words)
    _one_of(TASKS, "task", options.task)
    options.settings = _settings(TransferSettings, options)
    return options


def report(words: Sequence[str]) -> None:
    """Write what runs found as one HTML file that opens without a network."""
    from gvsl.report import summary_lines, write_report

    parser = _parser(report, "DIR... --out FILE.html")
    what = "folders of runs, or folders with such folders in them"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=what)
    _add_path(parser, "--out", "FILE.html", "the new file to write")
    options = _parse(parser, words)
    refuse_existing(options.out)
    page = write_report(options.folders, options.out)
    print("\n".join(summary_lines(options.folders)))
    print(f"Report: {page.resolve()}")


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "prepare": prepare,
    "inspect": inspect,
    "pretrain": pretrain,
    "transfer": transfer,
    "report": report,
}


# --- the demo -----------------------------------------------------------------------------------------------


def _demo(out: Path, recipe: str) -> None:
    """Run the demo's steps in `out`, each shown as a user would type it."""
    from gvsl.datasets.phantom import write_phantom

    phantom, store, pretrained = out / "phantom", out / "store", out / "pretrain"
    print(f"# 1. Make a phantom: {DEMO_CASES} subjects, as NIfTI files")
    call = f'write_phantom(Path("{phantom}"), count={DEMO_CASES}, shape={DEMO_SHAPE})'
    code = f"from pathlib import Path; from gvsl.datasets.phantom import write_phantom; {call}"
    print(f"$ python -c {shlex.quote(code)}", flush=True)
    with progress(DEMO_CASES, "Phantom", "subjects") as advance:
        write_phantom(phantom, count=DEMO_CASES, shape=DEMO_SHAPE, progress=advance)
    _step("2. Prepare it, once", "prepare", phantom, store, "--preset", "ct")
    _step("3. Pre-train without labels", "pretrain", store, "--out", pretrained, "--recipe", recipe)
    print("\n# 4. A linear probe: one convolution, trained with labels, on frozen features", flush=True)
    for seed in DEMO_SEEDS:
        for name, weights in (("gvsl", pretrained), ("scratch", "scratch")):
            options: list[object] = ["--task", "segmentation", "--weights", weights, "--mode", "linear"]
            options += ["--out", out / f"linear-{name}-{seed}", "--seed", seed, "--recipe", recipe]
            _step("", "transfer", store, *options)
    _step("5. Look at it", "report", out, "--out", out / "report.html")


def _step(title: str, *words: object) -> None:
    """Show one command as a user would type it, and run it."""
    typed = [str(word) for word in words]
    if title:
        print(f"\n# {title}")
    print(f"$ gvsl {shlex.join(typed)}", flush=True)
    run(typed)


# --- recipes ------------------------------------------------------------------------------------------------


def recipe_names() -> list[str]:
    """The recipes that come with gvsl."""
    folder = files("gvsl").joinpath("recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _read_recipe(recipe: str, command: str) -> dict[str, Any]:
    """The settings that a recipe has for a command, flat: {"trainer.max_steps": 100}."""
    shipped = recipe_names()
    place = files("gvsl").joinpath("recipes", f"{recipe}.yaml") if recipe in shipped else Path(recipe)
    if not place.is_file():
        guess = _nearest(recipe, shipped)
        raise UserError(f"there is no recipe {recipe}{guess}: name one of {_listed(shipped)}, or a YAML file")
    try:
        sections = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {recipe} is not YAML: {_one_line(str(error))}") from None
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise UserError(f"recipe {recipe} must have sections ({_listed(RECIPE_COMMANDS)}), each of settings")
    for name in sections:
        if name not in RECIPE_COMMANDS:
            raise UserError(f"recipe {recipe} has a section {name}: there may be {_listed(RECIPE_COMMANDS)}")
    if command not in sections:
        raise UserError(f"recipe {recipe} has no section {command}, so it says nothing about gvsl {command}")
    return dict(_flat(sections[command]))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _recipe_setting(words: Sequence[str], command: str, key: str) -> str | None:
    """What the recipe on a command line says for one setting that must be known before the others."""
    recipe = _peek(words, "--recipe")
    found = _read_recipe(recipe, command).get(key) if recipe else None
    return None if found is None else str(found)


# --- parsers ------------------------------------------------------------------------------------------------


class _Formatter(DefaultHelpFormatter):
    """Help in paragraphs, with each setting's default; metavar and default say what type it has."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(super(_Formatter, self)._fill_text(part, width, indent) for part in paragraphs)

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if not action.option_strings or action.nargs == 0 or action.default == SUPPRESS:
            return text
        if action.required:
            return f"{text} (required)"
        return text if action.default is None else f"{text} (default: %(default)s)"


def _parser(command: Command, usage: str) -> ArgumentParser:
    """An empty parser for a command, described by the docstring of its function."""
    name = command.__name__
    return ArgumentParser(
        prog=f"gvsl {name}",
        usage=f"gvsl {name} {usage}",
        description=signatures.cleandoc(command.__doc__ or ""),
        formatter_class=_Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def _add_path(parser: ArgumentParser, name: str, metavar: str, text: str) -> None:
    """A path that must be given."""
    more = {"required": True} if name.startswith("--") else {}
    parser.add_argument(name, type=Path, metavar=metavar, help=text, **more)


def _add_recipe(parser: ArgumentParser, default: str | None = None) -> None:
    shipped = _listed(recipe_names())
    text = f"settings that belong together: {shipped}, or a YAML file; the command line goes before it"
    parser.add_argument("--recipe", default=default, metavar="NAME|FILE", help=text)


def _parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """What `words` say, over what their recipe says, over the defaults; settings as their classes.

    Raises:
        UserError: one is unknown, missing or of another type.
    """
    known = {option for action in parser._actions for option in action.option_strings}
    command = parser.prog.removeprefix("gvsl ")
    given: list[str] = []
    recipe = _peek(words, "--recipe") if command in RECIPE_COMMANDS else None
    if recipe:
        for key, value in _read_recipe(recipe, command).items():
            if f"--{key}" not in known - NEVER_IN_RECIPES:
                guess = _nearest(f"--{key}", known)
                raise UserError(f"recipe {recipe} sets {key}, which {parser.prog} doesn't have{guess}")
            given.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in {"--", *known}:
            guess = _nearest(option, known)
            raise UserError(f"{parser.prog} has no setting {option}{guess}; {parser.prog} --help lists them")
    try:
        return parser.instantiate(parser.parse_args([*given, *words]))
    except ArgumentError as error:
        raise UserError(f"{parser.prog}: {_plain(str(error))}") from None


def _peek(words: Sequence[str], option: str) -> str | None:
    """The value of an option that must be known before the parser can be built, or None.

    Raises:
        UserError: the option stands there without a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        value: str | None = parser.parse_known_args(list(words))[0].value
    except ArgumentError as error:
        raise UserError(str(error)) from None
    return value


def _settings(kind: type[Settings], options: Namespace) -> Settings:
    """The fields of a settings dataclass from among the parsed options."""
    return kind(**{item.name: options[item.name] for item in fields(kind)})


def _pretext_type(method: Callable[..., object]) -> type:
    """The settings dataclass that a method's factory takes, by the annotation of its `settings`."""
    annotation = signatures.signature(method, eval_str=True).parameters["settings"].annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if is_dataclass(kind)]
    if len(kinds) != 1 or not isinstance(kinds[0], type):
        raise TypeError(f"{method} must annotate its settings with their dataclass, not with {annotation}")
    return kinds[0]


def _one_of(names: Iterable[str], what: str, name: str) -> str:
    """`name`, which must be one of `names`.

    Raises:
        UserError: it isn't.
    """
    known = list(names)
    if name not in known:
        raise UserError(f"there is no {what} {name}{_nearest(name, known)}: there is {_listed(known)}")
    return name


# --- words --------------------------------------------------------------------------------------------------


def _complain(message: str) -> int:
    """Say on one line what a user did wrong, and return the exit code for it."""
    print(f"gvsl: error: {_one_line(message)}", file=sys.stderr)
    return 2


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(message: str) -> str:
    """The parser's complaint in a user's words."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", _one_line(message))
    return re.sub(r'^Parser key "([^"]+)":', r"--\1:", text).replace("typing.", "")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _nearest(name: str, names: Iterable[str]) -> str:
    """A guess at what was meant, to go behind the name, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return f" (did you mean {found[0]}?)" if found else ""


def _print_record(folder: Path, record: RunRecord) -> None:
    """What a run is worth on cases that it didn't learn from, one figure a line, and where it is."""
    for name, value in record.metrics.items():
        if not name.startswith("train/"):
            print(f"{name:<20} {value:.4g}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def _summary(command: Command) -> str:
    """The first line of a command's docstring."""
    return (command.__doc__ or "").splitlines()[0]
