"""Description of a store for `gvsl inspect`."""

from collections import Counter

from gvsl.cases import SPLITS
from gvsl.io import format_sizes
from gvsl.preprocessing.checks import WITHOUT_AIR
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import Preprocessing, describe_range, format_spacing
from gvsl.store.audit import describe_pair, duplicates, find_leakage
from gvsl.store.store import Store
from gvsl.text import printable


def describe(store: Store) -> str:
    """Describe counts, splits, shapes, preprocessing and labels, and list every refused file with its reason."""
    table = store.table
    low, high = (format_sizes(pick(axis=0)) for pick in (table.shapes.min, table.shapes.max))
    splits = [f"{name} {size}" for name in SPLITS if (size := table.of_split(name).size)]
    without = int((table.splits == 0).sum())
    holding, classes, notes, entries = Counter[int](), Counter[int](), [], []
    for case in store.cases.values():  # one pass, since it parses each case
        holding.update(case.label_values or ())
        classes.update(() if case.target is None else (case.target,))
        entries.append((case.id, case.splits, case.content))
        if case.labels_cropped:
            notes.append(f"note      {case.id}: the foreground crop cut away {case.labels_cropped} labelled voxels")
        if case.without_air:
            notes.append(f"note      {case.id}: {WITHOUT_AIR}")
        notes += [f"note      {case.id}: {printable(note)}" for note in case.notes]
    lines = [
        f"store     {store.place}",
        f"source    {store.source}",
        f"volumes   {len(store.cases)}, {int(table.labelled.sum())} with labels",
        f"splits    {', '.join(splits) or 'none'}" + (f"; {without} in none" if without else ""),
        f"shapes    {low} to {high} voxels",
        f"prepared  {_preprocessing(store.preprocessing)}",
        f"hash      {store.hash[:16]}",
    ]
    lines += [f"channel   {printable(each.name)}, {describe_range(each)}" for each in store.preprocessing.channels]
    lines += [f"lungs     {line}" for line in describe_lungs(store)]
    lines += [f"label     {value} {name}, in {holding[value]} volumes" for value, name in store.label_names.items()]
    lines += [f"ignored   {value}, in {holding[value]} volumes" for value in store.ignored]
    lines += [f"class     {target}, {classes[target]} volumes" for target in sorted(classes)]
    lines += notes
    lines += [f"same      {', '.join(case for case, _, _ in group)}: the same image" for group in duplicates(entries)]
    lines += [f"leakage   {describe_pair(*pair)}" for pair in find_leakage(entries)]
    lines.append(f"refused   {len(store.refused) or 'none'}")
    lines += [f"  {printable(f'{file}: {reason}')}" for file, reason in store.refused]
    return "\n".join(lines)


def describe_lungs(store: Store) -> list[str]:
    """Count the volumes cropped by a supplied lung mask and by segmentation; no line if the crop isn't to the lungs."""
    settings = store.preprocessing
    if settings.crop != "lungs":
        return []
    masked = sum(case.masked for case in store.cases.values())
    return [f"{masked} volumes cropped by a supplied mask, {len(store.cases) - masked} by {settings.lungs}"]


def _preprocessing(settings: Preprocessing) -> str:
    unit = "each channel's range" if settings.channels else describe_range(settings)
    cropped = f"lungs (by {settings.lungs})" if settings.crop == "lungs" else settings.crop
    crop = "no crop" if settings.crop == "none" else f"{cropped} with a margin of {settings.margin}"
    return (
        f"{_preset(settings)}{settings.orientation}, {format_spacing(settings.spacing)} mm, {unit} "
        f"mapped to 0 to 1, {crop}"
    )


def _preset(settings: Preprocessing) -> str:
    """Return the preset's name and the settings that differ from it."""
    if settings.preset not in PRESETS:
        return ""
    original = PRESETS[settings.preset]
    same = {"channels"}  # listed by themselves
    others = [name for name, value in vars(settings).items() if value != getattr(original, name) and name not in same]
    return settings.preset + (f" except {', '.join(others)}" if others else "") + ": "
