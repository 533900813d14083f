"""Damage to files: of any kind, and of the structure of JSON, YAML, safetensors, npz, checkpoints and Blosc2 arrays."""

import gzip
import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

EXECUTED = "executed"
"""A file that only content that was executed writes, beside the mutant."""
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 255, 65536, 10**9, 2**31, 2**63, -(2**63), 10**18, 10**30),
    *(0.5, -0.5, 1e-300, 1e300, -1e300, 1.0, float("nan"), float("inf"), -float("inf")),
    *("", " ", "a", "1", "-1", "nan", "1e999", "../x", "/etc/passwd", "/dev/zero", "a" * 300, "x" * 100_000),
    *("\x1b[2J\x1b]0;title\x07", "\ud800", "\u202e", "=1+2", "a\0b", "a\nb", "é", "true", "null", "[1, 2]", "{}"),
    *([], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": {"c": 1}}}, [0] * 1000, [[0, 1]] * 10),
)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in place, by its kind, and return how."""
    structured = STRUCTURED.get(path.suffix)
    if structured is not None and draw.random() < 0.75:
        return structured(path, draw)
    return anything(path, draw)


# Any file ------------------------------------------------------------------------------------------------------------


def anything(path: Path, draw: random.Random) -> str:
    """Damage a file of any kind."""
    how = draw.choice(["flip"] * 6 + ["cut"] * 4 + ["insert", "remove"] * 2 + list(REPLACED))
    content = path.read_bytes()
    if how == "flip":
        path.write_bytes(flipped(content, draw))
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif how == "insert":
        place = draw.randrange(len(content) + 1)
        path.write_bytes(content[:place] + draw.randbytes(draw.choice([1, 8, 500])) + content[place:])
    elif how == "remove":
        start = draw.randrange(len(content) + 1)
        path.write_bytes(content[:start] + content[start + draw.choice([1, 8, 500]) :])
    else:
        path.unlink()
        REPLACED[how](path)
    return how


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Flip bits, half of them near the beginning."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 20]) if changed else 0):
        place = draw.randrange(len(changed)) if draw.random() < 0.5 else draw.randrange(min(len(changed), 400))
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 * 2**30)


def _link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


REPLACED: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "zeros": _link_to_zeros,
    "loop": _loop,
    "sparse": _sparse,
    "pointer": lambda path: path.write_bytes(POINTER),
    "page": lambda path: path.write_bytes(PAGE),
    "empty": lambda path: path.write_bytes(b""),
    "utf-16": lambda path: path.write_bytes('{"a": 1}'.encode("utf-16")),
}
"""What lies in a file's place."""


# JSON and YAML -------------------------------------------------------------------------------------------------------


def damage_json(path: Path, draw: random.Random) -> str:
    """Damage the text or the values of a JSON file, or of one line of many."""
    text = path.read_text(encoding="utf-8")
    if draw.random() < 0.25:
        how = draw.choice(list(RAW_JSON))
        path.write_text(RAW_JSON[how](text), encoding="utf-8")
        return how
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        number = draw.randrange(len(lines))
        value, how = damaged_value(json.loads(lines[number]), draw)
        lines[number] = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
        return how
    value, how = damaged_value(json.loads(text), draw)
    path.write_text(json.dumps(value), encoding="utf-8")
    return how


RAW_JSON: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "NaN": lambda text: text.replace(": ", ': NaN, "x": ', 1),
    "1e999": lambda text: text.replace("1", "1e999", 1),
    "digits": lambda text: text.replace("1", "9" * 5000, 1),
    "twice": lambda text: text.replace("{", '{"format": 1, "format": 2, ', 1),
    "deep lists": lambda text: text.replace(": ", ": " + "[" * 100_000 + "]" * 100_000 + ', "x": ', 1),
    "deep objects": lambda text: text.replace(": ", ": " + '{"a":' * 2_000 + "1" + "}" * 2_000 + ', "x": ', 1),
    "open": lambda text: text + "[" * 100_000,
    "many": lambda text: "[" + "[]," * 5_000_000 + "[]]",
    "a list": lambda text: f"[{text}]",
    "number": lambda text: "5",
    "rest": lambda text: text + "}",
}


def damaged_value(value: Any, draw: random.Random) -> tuple[Any, str]:
    """Return a tree of JSON values with one to three damaged entries, and how."""
    hows = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw.choice(places)
        how = draw.choice(["odd", "odd", "odd", "remove", "add", "swap", "double"])
        if how == "odd":
            holder[key] = draw.choice(ODD)
        elif how == "remove":
            del holder[key]
        elif how == "add":
            other = draw.choice(ODD)
            if isinstance(holder, dict):
                holder[str(draw.choice(ODD))] = other
            else:
                holder.insert(key, other)
        elif how == "swap":
            other_holder, other_key = draw.choice(places)
            holder[key] = json.loads(json.dumps(other_holder[other_key]))
        elif isinstance(holder[key], list):
            holder[key] = holder[key] * 2
        elif isinstance(holder[key], int | float | str):
            holder[key] = holder[key] * draw.choice([-1, 0, 2, 1000])
        hows.append(f"{how} {str(key)[:20]}")
    return value, ", ".join(hows)


def _places(value: Any) -> Any:
    """Yield each holder of a value with its key or index."""
    entries = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, item in entries if isinstance(value, dict | list) else ():
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def damage_yaml(path: Path, draw: random.Random) -> str:
    """Damage the text or the values of a YAML file."""
    text = path.read_text(encoding="utf-8")
    if draw.random() < 0.4:
        how = draw.choice(list(RAW_YAML))
        path.write_text(RAW_YAML[how](text), encoding="utf-8")
        return how
    value, how = damaged_value(json.loads(json.dumps(yaml.safe_load(text))), draw)
    path.write_text(yaml.safe_dump(value, allow_unicode=draw.random() < 0.5), encoding="utf-8", errors="surrogatepass")
    return how


def _laughs(text: str) -> str:
    lines = ["pretrain:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    return "\n".join(lines) + "\n"


def _nested_maps(text: str) -> str:
    lines = ["pretrain:", "  a0: &a0 {x: 1, y: 2}"]
    lines += [
        f"  a{level}: &a{level} {{{', '.join(f'k{n}: *a{level - 1}' for n in range(9))}}}" for level in range(1, 9)
    ]
    return "\n".join(lines) + "\n"


RAW_YAML: dict[str, Callable[[str], str]] = {
    "laughs": _laughs,
    "nested maps": _nested_maps,
    "itself": lambda text: "pretrain: &a\n  seed: *a\n",
    "object": lambda text: text + "  seed: !!python/object/apply:os.system ['touch executed']\n",
    "date": lambda text: "pretrain:\n  seed: 2026-11-27\n",
    "bad date": lambda text: "pretrain:\n  seed: 2026-13-77\n",
    "set": lambda text: "pretrain:\n  seed: !!set {a, b}\n",
    "binary": lambda text: "pretrain:\n  seed: !!binary gIGC\n",
    "infinity": lambda text: "pretrain:\n  optimiser:\n    learning_rate: .inf\n",
    "not a number": lambda text: "transfer:\n  learning_rate: .nan\npretrain:\n  optimiser: {learning_rate: .nan}\n",
    "digits": lambda text: f"pretrain:\n  seed: {'9' * 5000}\n",
    "deep": lambda text: "pretrain: " + "[" * 5_000 + "]" * 5_000 + "\n",
    "deep maps": lambda text: "pretrain: " + "{a: " * 2_000 + "1" + "}" * 2_000 + "\n",
    "twice": lambda text: "pretrain:\n  seed: 1\n  seed: 2\n",
    "tab": lambda text: "pretrain:\n\tseed: 1\n",
    "keys": lambda text: "pretrain:\n  ? [a, b]\n  : 1\n  1: 2\n  null: 3\n",
    "long": lambda text: "pretrain:\n" + "  seed: 1\n" * 60_000,
    "two": lambda text: text + "---\n" + text,
    "byte order mark": lambda text: "\ufeff" + text,
}


# Tensors and arrays --------------------------------------------------------------------------------------------------


class _Evil:
    """Executed on unpickling, it leaves a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.folder / EXECUTED}",)


def damage_safetensors(path: Path, draw: random.Random) -> str:
    """Damage names, types, shapes or values of tensors, or the header's claims."""
    if draw.random() < 0.25:
        return _damage_header(path, draw)
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    how = _damage_tensors(tensors, draw)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return how


def _damage_tensors(tensors: dict[str, torch.Tensor], draw: random.Random) -> str:
    name = draw.choice(sorted(tensors))
    value = tensors[name]
    how = draw.choice(["nan", "inf", "huge", "cut", "longer", "flat", "type", "drop", "add", "rename", "zero", "empty"])
    if how in ("nan", "inf", "huge"):
        flat = value.float().flatten()
        if flat.numel():
            flat[draw.randrange(flat.numel())] = {"nan": float("nan"), "inf": float("inf"), "huge": 1e38}[how]
        tensors[name] = flat.view(value.shape)
    elif how == "cut":
        tensors[name] = value.flatten()[:-1].clone()
    elif how == "longer":
        tensors[name] = torch.cat([value.flatten(), value.flatten()])
    elif how == "flat":
        tensors[name] = value.flatten()[None].clone()
    elif how == "type":
        kinds = [torch.int64, torch.float64, torch.float16, torch.bool, torch.uint8, torch.bfloat16, torch.complex64]
        tensors[name] = value.to(draw.choice(kinds))
    elif how == "drop":
        del tensors[name]
    elif how == "add":
        tensors[draw.choice(["x", "", "a/b/c", "\x1b[2J", "optimiser/0/exp_avg", "network/x"])] = torch.zeros(3)
    elif how == "rename":
        tensors[name + "x"] = tensors.pop(name)
    elif how == "zero":
        tensors[name] = torch.zeros_like(value)
    else:
        tensors.clear()
    return f"{how} {name}"


def _damage_header(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    how = draw.choice(["length", "tree", "shape", "offsets"])
    if how == "length":
        path.write_bytes(struct.pack("<Q", draw.choice([0, 1, 2**31, 2**62, length - 1, length + 1])) + content[8:])
        return how
    name = draw.choice([key for key in header if key != "__metadata__"])
    if how == "shape":
        header[name]["shape"] = draw.choice([[2**40], [2**62, 2**62], [0], [-1], [2**20, 2**20, 2**20], []])
    elif how == "offsets":
        header[name]["data_offsets"] = draw.choice([[0, 2**40], [10, 0], [0, 0], [2**62, 2**63 - 1]])
    else:
        header, _ = damaged_value(header, draw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return f"header's {how}"


def damage_npz(path: Path, draw: random.Random) -> str:
    """Damage names, types, shapes or values of arrays, or a header's claims."""
    with np.load(path) as file:
        arrays = dict(file)
    name = draw.choice(sorted(arrays))
    value = arrays[name]
    how = draw.choice(["nan", "inf", "shape", "type", "drop", "add", "object", "scalar", "large", "claim"])
    if how in ("nan", "inf"):
        arrays[name] = np.full(value.shape, float(how))
    elif how == "shape":
        arrays[name] = draw.choice([value.ravel(), value[None], value[:0] if value.ndim else value.ravel()[:0]])
    elif how == "type":
        arrays[name] = value.astype(draw.choice(["<f8", "<c16", "<U5", "S3", "<i8", "?", "<M8[s]", ">f4"]))
    elif how == "drop":
        del arrays[name]
    elif how == "add":
        arrays[draw.choice(["x", "image_3", "grid_0", "step"])] = np.zeros((2, 2))
    elif how == "object":
        arrays[name] = np.array([_Evil(path.parent)], dtype=object)
    elif how == "scalar":
        arrays[name] = np.array(draw.choice([0, -1.0, 1e300, "a"]))
    elif how == "large":
        arrays[name] = np.zeros((2048, 2048, 8), np.uint8)
    with path.open("wb") as opened:
        np.savez_compressed(opened, **arrays)
    if how == "claim":
        _claim(path, name, draw)
    return f"{how} {name}"


def _claim(path: Path, name: str, draw: random.Random) -> None:
    """Write an npz file in which one array's header claims a huge shape."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {item: archive.read(item) for item in archive.namelist()}
    header = io.BytesIO()
    shape = draw.choice([(2**30,), (2**20, 2**20), (-1,), (2**62, 4), (True,)])
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    members[f"{name}.npy"] = header.getvalue() + bytes(800)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item, content in members.items():
            archive.writestr(item, content)


def damage_checkpoint(path: Path, draw: random.Random) -> str:
    """Damage the tensors or the values of a checkpoint, or make it execute something."""
    checkpoint = torch.load(path, weights_only=True)
    optimiser = ["optimiser", "optimiser"] if "optimizer_states" in checkpoint else []
    how = draw.choice(["tensor", "tensor", "tensor", *optimiser, "value", "value", "drop", "evil"])
    if how == "tensor":
        tensors = checkpoint["state_dict" if "state_dict" in checkpoint else "network_weights"]
        how += " " + _damage_tensors(tensors, draw)
    elif how == "optimiser":
        state = checkpoint["optimizer_states"][0]["state"]
        how += " " + _damage_tensors(state[draw.choice(sorted(state))], draw)
    elif how == "value":
        checkpoint[draw.choice(sorted(checkpoint))] = draw.choice(ODD)
    elif how == "drop":
        del checkpoint[draw.choice(sorted(checkpoint))]
    else:
        checkpoint["x"] = _Evil(path.parent)
    torch.save(checkpoint, path)
    return how


def damage_array(path: Path, draw: random.Random) -> str:
    """Put another array in the place of a store's."""
    shape = tuple(blosc2.open(str(path), mode="r").shape)
    kind = draw.choice(["<f2", "<f2", "|u1", "<i2", "<f8", "<i8", "|b1", "<c8", "<U4"])
    how = draw.choice(["nan", "inf", "negative", "type", "shape", "chunk"])
    array = np.full(shape, 0.5).astype("<f2" if how != "type" else kind)
    if how in ("nan", "inf", "negative"):
        array[0, 0, 0] = {"nan": np.nan, "inf": np.inf, "negative": -5}[how]
    elif how == "shape":
        array = draw.choice([array[:-1], array.ravel(), array[None], array[:0]])
    chunks = (512, 512, 256) if how == "chunk" else None
    path.unlink()
    blosc2.asarray(
        np.ascontiguousarray(array), urlpath=str(path), contiguous=True, **({"chunks": chunks} if chunks else {})
    )
    return f"{how} {array.dtype} {array.shape}"


def damage_gzip(path: Path, draw: random.Random) -> str:
    """Damage what a gzipped file holds."""
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(flipped(plain, draw), 1))
    return "flip inside"


STRUCTURED: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": damage_json,
    ".jsonl": damage_json,
    ".yaml": damage_yaml,
    ".safetensors": damage_safetensors,
    ".npz": damage_npz,
    ".ckpt": damage_checkpoint,
    ".pth": damage_checkpoint,
    ".b2nd": damage_array,
    ".gz": damage_gzip,
}
"""The damage to the structure of a file, by its suffix."""


def copy_of(original: Path, folder: Path) -> None:
    """Put a fresh copy of an original in a folder's place."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder, symlinks=True)
