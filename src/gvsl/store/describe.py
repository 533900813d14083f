"""What a store holds, told to a reader."""

from collections import Counter

from gvsl.preprocessing.apply import AIR_HU
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import Preprocessing
from gvsl.store.audit import duplicates, leaks, told
from gvsl.store.store import Store
from gvsl.text import printable
from gvsl.types import SPLITS


def describe(store: Store) -> str:
    """Lines on counts, splits, shapes, contract and labels, and on every refused file with its reason."""
    table = store.table
    smallest, largest = (
        " x ".join(str(side) for side in pick(axis=0)) for pick in (table.shapes.min, table.shapes.max)
    )
    splits = {name: table.of_split(name).size for name in SPLITS}
    named = [f"{name} {count}" for name, count in splits.items() if count]
    without = int((table.splits == 0).sum())
    holding, classes, notes, entries = Counter[int](), Counter[int](), [], []
    for case in store.cases.values():  # once: each is parsed on the way
        holding.update(case.label_values or ())
        classes.update(() if case.target is None else (case.target,))
        entries.append((case.id, case.splits, case.content))
        if case.labels_cropped:
            notes.append(f"note      {case.id}: the foreground crop cut away {case.labels_cropped} labelled voxels")
        if case.without_air:
            notes.append(
                f"note      {case.id}: no voxel lies below {AIR_HU:g} HU; is air at 0, stored with an offset of 1024?"
            )
    lines = [
        f"store     {store.path}",
        f"source    {store.source}",
        f"volumes   {len(store.cases)}, {int(table.labelled.sum())} with labels",
        f"splits    {', '.join(named) or 'none'}" + (f"; {without} in none" if without else ""),
        f"shapes    {smallest} to {largest} voxels",
        f"contract  {_contract(store.preprocessing)}",
        f"hash      {store.hash[:16]}",
    ]
    lines += [f"lungs     {said}" for said in told_lungs(store)]
    lines += [f"label     {value} {name}, in {holding[value]} volumes" for value, name in store.label_names.items()]
    lines += [f"class     {target}, {classes[target]} volumes" for target in sorted(classes)]
    lines += notes
    lines += [f"same      {', '.join(case for case, _, _ in group)}: one image" for group in duplicates(entries)]
    lines += [f"leakage   {told(one, other)}" for one, other in leaks(entries)]
    lines.append(f"refused   {len(store.refused) or 'none'}")
    lines += [f"  {printable(f'{file}: {reason}')}" for file, reason in store.refused]
    return "\n".join(lines)


def told_lungs(store: Store) -> list[str]:
    """How many of a store's volumes were cropped to lungs that a mask marks; nothing where that isn't its crop."""
    settings = store.preprocessing
    if settings.crop != "lungs":
        return []
    masked = sum(case.masked for case in store.cases.values())
    return [f"{masked} volumes cropped by a mask given, {len(store.cases) - masked} by {settings.lungs}"]


def _contract(settings: Preprocessing) -> str:
    unit = "percentiles" if settings.intensity == "percentiles" else "window"
    crop = "no crop" if settings.crop == "none" else f"{_cropped(settings)} with a margin of {settings.margin}"
    return (
        f"{_preset(settings)}{settings.orientation}, {settings.spacing:g} mm, {unit} {settings.lower:g} to "
        f"{settings.upper:g} mapped to 0 to 1, {crop}"
    )


def _cropped(settings: Preprocessing) -> str:
    return f"lungs (by {settings.lungs})" if settings.crop == "lungs" else settings.crop


def _preset(settings: Preprocessing) -> str:
    """The preset's name, and which settings are no longer its own."""
    if settings.preset not in PRESETS:
        return ""
    began = PRESETS[settings.preset]
    others = [name for name, value in vars(settings).items() if value != getattr(began, name)]
    return settings.preset + (f" but for {', '.join(others)}" if others else "") + ": "
