"""What a store holds, told to a reader."""

from collections import Counter

from gvsl.store.preprocessing import Preprocessing
from gvsl.store.store import Store
from gvsl.types import SPLITS


def describe(store: Store) -> str:
    """Lines on counts, splits, shapes, contract and labels, and on every refused file with its reason."""
    cases = store.cases.values()
    shapes = [case.shape for case in cases]
    smallest, largest = (" x ".join(str(pick(sizes)) for sizes in zip(*shapes, strict=True)) for pick in (min, max))
    splits = Counter(split for case in cases for split in case.splits)
    named = [f"{name} {splits[name]}" for name in SPLITS if splits[name]]
    without = sum(not case.splits for case in cases)
    labelled = [case for case in cases if case.label_values is not None]
    lines = [
        f"store     {store.path}",
        f"source    {store.source}",
        f"volumes   {len(store.cases)}, {len(labelled)} with labels",
        f"splits    {', '.join(named) or 'none'}" + (f"; {without} in none" if without else ""),
        f"shapes    {smallest} to {largest} voxels",
        f"contract  {_contract(store.preprocessing)}",
        f"hash      {store.hash[:16]}",
    ]
    for value, name in store.label_names.items():
        holding = sum(value in (case.label_values or ()) for case in cases)
        lines.append(f"label     {value} {name}, in {holding} volumes")
    classes = Counter(case.target for case in cases if case.target is not None)
    lines += [f"class     {target}, {classes[target]} volumes" for target in sorted(classes)]
    lines += [
        f"note      {case.id}: the foreground crop cut away {case.labels_cropped} labelled voxels"
        for case in cases
        if case.labels_cropped
    ]
    lines.append(f"refused   {len(store.refused) or 'none'}")
    lines += [f"  {file}: {reason}" for file, reason in store.refused]
    return "\n".join(lines)


def _contract(settings: Preprocessing) -> str:
    unit = "percentiles" if settings.intensity == "percentiles" else "window"
    crop = f"foreground with a margin of {settings.margin}" if settings.crop == "foreground" else "no crop"
    return (
        f"{settings.orientation}, {settings.spacing:g} mm, {unit} {settings.lower:g} to {settings.upper:g} "
        f"mapped to 0 to 1, {crop}"
    )
