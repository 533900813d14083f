"""Weights as a folder: model.safetensors, config.json and, if known, learnt_from.txt. Nothing is ever unpickled."""

import json
import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast
from uuid import uuid4

import torch
from safetensors.torch import save_file
from torch import Tensor

from gvsl.backbones.backbone import Backbone
from gvsl.backbones.build import BACKBONES, build_backbone
from gvsl.backbones.hub import fetch_weights, is_hub_name
from gvsl.backbones.provenance import HASHES_NAME, format_hashes, read_hashes
from gvsl.backbones.tensor_file import read_tensors, tensor_shapes
from gvsl.errors import UserError
from gvsl.files import TEMPORARY, naming, whole_folder, write_text
from gvsl.preprocessing import Preprocessing, parse_preprocessing, preprocessing_values
from gvsl.readers import check_kind, read_json
from gvsl.settings.backbones import BackboneSettings, own_settings

FORMAT = 1
FOLDER_NAME = "weights"
MODEL_NAME = "model.safetensors"
HEADS_NAME = "heads.safetensors"
CONFIG_NAME = "config.json"
SHOWN_KEYS = 3
"""Names of keys in a message, of each kind."""

MAX_CHANNELS = 4096
"""Limit for a config's in_channels, width and max_width."""
MAX_LEVELS = 12
"""Limit for a config's levels."""
MAX_BLOCKS = 64
"""Limit for a config's blocks of a level."""

logger = logging.getLogger(__name__)


class SizeConfig(TypedDict):
    """The backbone in config.json: `gvsl.backbones.Backbone.size`."""

    name: NotRequired[str]
    in_channels: int
    width: int
    levels: NotRequired[int]
    blocks: NotRequired[list[int]]
    max_width: NotRequired[int]


class WeightsConfig(TypedDict):
    """Content of config.json besides `format`."""

    method: str
    backbone: SizeConfig
    preprocessing: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class KeyReport:
    """Comparison of the tensors of a file with those of a module, by name."""

    matched: tuple[str, ...]
    """In both, with equal shapes."""
    missing: tuple[str, ...]
    """Only in the module."""
    unexpected: tuple[str, ...]
    """Only in the file."""
    mismatched: tuple[str, ...]
    """In both, with different shapes or types: each name is followed by those in the file and those in the module."""

    @property
    def complete(self) -> bool:
        """True if every key matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Return the counts in one line, with the first few names that do not match."""
        parts = [f"{len(self.matched)} matched"]
        for kind in ("missing", "unexpected", "mismatched"):
            keys: tuple[str, ...] = getattr(self, kind)
            names = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
            parts.append(f"{len(keys)} {kind}" + (f" ({names})" if keys else ""))
        return "keys: " + ", ".join(parts)


class PretrainedBackbone(Backbone):
    """What a backbone with the weights of a run has besides: the information needed to use them."""

    preprocessing: Preprocessing
    """The preprocessing that its input needs."""
    method: str
    """Name of the method that trained it."""
    provenance: dict[str, Any]
    """Origin of the weights: store, steps, seed, versions."""
    learnt_from: frozenset[str] | None
    """Hashes of the images that it was trained on, from `gvsl.backbones.provenance`; None if unknown."""
    keys: KeyReport
    """The comparison with the file's tensors, in which all keys match."""


PretrainedUNet3D = PretrainedBackbone
"""The name from before there were other backbones."""


def save_weights(
    folder: Path,
    backbone: Backbone,
    *,
    method: str,
    preprocessing: Preprocessing,
    provenance: dict[str, Any],
    heads: Mapping[str, Tensor] | None = None,
    learnt_from: Collection[str] | None = None,
) -> Path:
    """Write `folder`/weights, whole or not at all, and return its path; existing weights are replaced.

    Args:
        folder: the run's folder.
        backbone: on any device.
        method: name of the method that trained it.
        preprocessing: preprocessing of the volumes it was trained on.
        provenance: its origin: `store` (name and hash), `steps`, `seed`, `versions`; JSON values.
        heads: tensors of the method's heads, written to heads.safetensors.
        learnt_from: hashes of the images it was trained on, from `gvsl.backbones.provenance.image_hashes`, written to
            learnt_from.txt; None if unknown.
    """
    config = {
        "format": FORMAT,
        "method": method,
        "backbone": backbone.size,
        "preprocessing": preprocessing_values(preprocessing),
        "provenance": provenance,
    }
    target = folder / FOLDER_NAME
    fresh = folder / f"{TEMPORARY}{uuid4().hex[:8]}.new"
    with whole_folder(fresh) as temporary:
        with naming(target / MODEL_NAME):
            save_file(_plain(backbone.state_dict()), temporary / MODEL_NAME)
        if heads:
            with naming(target / HEADS_NAME):
                save_file(_plain(heads), temporary / HEADS_NAME)
        if learnt_from is not None:
            write_text(temporary / HASHES_NAME, format_hashes(learnt_from))
        write_text(temporary / CONFIG_NAME, json.dumps(config, indent=1, allow_nan=False) + "\n")
    if target.exists():
        old = fresh.with_suffix(".old")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)
    return target


def load_backbone(path: str | Path, in_channels: int | None = None) -> PretrainedBackbone:
    """Load the backbone of a run, in eval mode, on the CPU.

    Args:
        path: a run's folder, its weights folder, the model.safetensors in that, or a name on the Hugging Face Hub,
            owner/name or owner/name@revision.
        in_channels: channels of the images it will take, by default as many as it was trained on. The weights of the
            first convolution are repeated over the channels and rescaled, so that an image repeated over them gives the
            same features.

    Returns:
        The backbone, with the `.preprocessing` to apply to its input, `.method`, `.provenance` and `.learnt_from`.

    Raises:
        UserError: `path` is none of these, a file in it is broken or of a newer format, a key does not match, a weight
            is not finite, or the Hub can't be reached.

    >>> from tempfile import TemporaryDirectory
    >>> from gvsl.backbones import UNet3D
    >>> from gvsl.preprocessing import PRESETS
    >>> with TemporaryDirectory() as folder:
    ...     path = save_weights(
    ...         Path(folder), UNet3D(width=8), method="gvsl", preprocessing=PRESETS["ct"], provenance={}
    ...     )
    ...     backbone = load_backbone(path, in_channels=2)
    >>> backbone(torch.rand(1, 2, 16, 16, 16)).global_.shape
    torch.Size([1, 128, 1, 1, 1])
    """
    folder = find_weights(path)
    config = read_config(folder / CONFIG_NAME)
    settings = _parse_backbone(config, folder)
    report = compare_keys(_expected(settings, folder), tensor_shapes(folder / MODEL_NAME))
    if not report.complete:
        raise UserError(
            f"{folder / MODEL_NAME} does not fit the backbone of its {CONFIG_NAME} ({report}): copy both from one run"
        )
    tensors = read_tensors(folder / MODEL_NAME)
    if in_channels is not None and in_channels != settings.in_channels:
        if in_channels < 1:
            raise UserError(f"in_channels is {in_channels}: give 1 or more")
        settings = replace(settings, in_channels=in_channels)
        stem = BACKBONES[settings.name].stem_key
        tensors[stem] = repeat_channels(tensors[stem], in_channels)
    backbone = _build(config, settings, folder)
    backbone.load_state_dict(tensors)
    backbone.keys = report
    backbone.learnt_from = read_hashes(folder)
    logger.info("%s: %s", folder, report)
    return backbone.eval()


def repeat_channels(weight: Tensor, channels: int) -> Tensor:
    """Adapt a convolution's weights to another number of channels: (out, C, ...) to (out, channels, ...).

    The weights are repeated cyclically and scaled by C / channels, so that a one-channel image repeated over all
    channels gives the same output as before.
    """
    old = weight.shape[1]
    return weight[:, torch.arange(channels) % old] * (old / channels)


def read_size(path: str | Path) -> BackboneSettings:
    """Read the size of the backbone that `path` names, as for `load_backbone`, from its config.json only.

    Raises:
        UserError: there are no weights, or the config can't be read.
    """
    folder = find_weights(path)
    return _parse_backbone(read_config(folder / CONFIG_NAME), folder)


def find_weights(path: str | Path) -> Path:
    """Return the weights folder of a run's folder, the folder itself, a file in it, or a name on the Hub.

    Raises:
        UserError: it is none of these, or the Hub can't be reached.
    """
    name, path = str(path), Path(path)
    if path.is_file():
        if path.name == MODEL_NAME and (path.parent / CONFIG_NAME).is_file():
            return path.parent
        raise UserError(
            f"{path} is a file, but not a {MODEL_NAME} with its {CONFIG_NAME} beside it: name a run's folder"
        )
    path = find_run(path)
    for folder in (path, path / FOLDER_NAME):
        if (folder / MODEL_NAME).is_file() and (folder / CONFIG_NAME).is_file():
            return folder
    raise UserError(
        f"{name} holds no {MODEL_NAME} and {CONFIG_NAME}, nor does a {FOLDER_NAME} folder in it: "
        "name the folder of a finished run"
    )


def find_run(path: str | Path, files: Sequence[str] = ()) -> Path:
    """Return the folder of a run, downloaded if `path` is a name on the Hugging Face Hub.

    Args:
        path: a folder, owner/name or owner/name@revision.
        files: names of files in it to download besides those of its weights.

    Raises:
        UserError: it is neither, or a file, or the Hub can't be reached.
    """
    if Path(path).is_dir():
        return Path(path)
    if Path(path).exists():
        raise UserError(f"{path} is a file: name the folder of its run")
    if not is_hub_name(str(path)):
        raise UserError(f"{path} does not exist; name the folder of a run, or its {FOLDER_NAME} folder")
    weights = (MODEL_NAME, CONFIG_NAME, HASHES_NAME)
    return fetch_weights(str(path), (*weights, *(f"{FOLDER_NAME}/{file}" for file in weights), *files))


def compare_keys(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> KeyReport:
    """Compare the tensors of a module with those of a file by name, shape and kind of number."""
    shared = expected.keys() & found.keys()
    wrong = {key for key in shared if _layout(expected[key]) != _layout(found[key])}
    return KeyReport(
        matched=tuple(sorted(shared - wrong)),
        missing=tuple(sorted(expected.keys() - found.keys())),
        unexpected=tuple(sorted(found.keys() - expected.keys())),
        mismatched=tuple(f"{key} {_shown(found[key], expected[key])}" for key in sorted(wrong)),
    )


def _layout(tensor: Tensor) -> tuple[torch.Size, bool]:
    return tensor.shape, tensor.is_floating_point()


def _shown(found: Tensor, expected: Tensor) -> str:
    """Return how the layout of a tensor differs from the expected one."""
    if found.shape == expected.shape:
        return f"{found.dtype} for {expected.dtype}".replace("torch.", "")
    return f"{tuple(found.shape)} for {tuple(expected.shape)}"


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.json of a weights folder.

    Raises:
        UserError: it can't be read, is not a JSON object, or has another format.
    """
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}; copy it from the run again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object; copy it from the run again")
    if config.get("format") != FORMAT:
        raise UserError(f"{path} has format {config.get('format')}; this gvsl reads format {FORMAT}")
    return config


def pretrained_backbone(settings: BackboneSettings) -> PretrainedBackbone:
    """Return a new backbone of a size, with random weights, that can hold the information of a run.

    Raises:
        UserError: see `gvsl.backbones.build_backbone`.
    """
    kind = BACKBONES[settings.name]
    both = type(f"Pretrained{kind.__name__}", (PretrainedBackbone, kind), {})
    with torch.random.fork_rng(devices=[]):  # initialising weights must not advance the caller's generator
        return cast(PretrainedBackbone, build_backbone(settings, both))


def _expected(settings: BackboneSettings, folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a backbone of this size without their values, so that no size costs memory."""
    try:
        with torch.device("meta"):
            return build_backbone(settings).state_dict()
    except RuntimeError as error:
        raise _invalid_config(folder, error) from None


def _build(config: dict[str, Any], settings: BackboneSettings, folder: Path) -> PretrainedBackbone:
    """Return the backbone that `config` describes, with random weights."""
    backbone = pretrained_backbone(settings)
    try:
        check_kind(config, WeightsConfig)
        backbone.preprocessing = parse_preprocessing(config["preprocessing"])
        backbone.method = config["method"]
        backbone.provenance = dict(config["provenance"])
    except (ValueError, UserError) as error:
        raise _invalid_config(folder, error) from None
    return backbone


def _parse_backbone(config: dict[str, Any], folder: Path) -> BackboneSettings:
    try:
        return parse_size(config.get("backbone"))
    except (KeyError, ValueError, UserError) as error:
        raise _invalid_config(folder, error) from None


def parse_size(values: Any) -> BackboneSettings:
    """Return the settings whose backbone has this `size`.

    Raises:
        ValueError: a value is of another kind or out of its range, or there is no such setting.
        UserError: the values don't fit each other.
    """
    check_kind(values, SizeConfig, "backbone")
    name = values.get("name", "unet")  # older weights don't name it
    if name not in BACKBONES:
        raise ValueError(f"a backbone {name[:40]!r}, of which this gvsl knows {', '.join(BACKBONES)}")
    known = {"name", "in_channels", "width", "levels", *own_settings(name)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"a backbone {name} with {unknown[0][:40]}")
    chosen = values | {"blocks": tuple(values.get("blocks", ()))}
    settings = BackboneSettings(**chosen)  # older weights all have the default of levels
    widths = (settings.in_channels, settings.width, settings.max_width)
    if not all(0 < width <= MAX_CHANNELS for width in widths):
        raise ValueError(f"a backbone of {settings.in_channels} channels and width {settings.width}")
    if not 2 <= int(settings.levels) <= MAX_LEVELS:
        raise ValueError(f"a backbone of {settings.levels} levels")
    if any(blocks > MAX_BLOCKS for blocks in settings.blocks):
        raise ValueError(f"a backbone of {max(settings.blocks)} blocks at a level")
    return settings


def _invalid_config(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder / CONFIG_NAME} is not a valid config ({error}); copy it from the run again")


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies on the CPU that share no memory, as safetensors requires."""
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
