"""One DICOM file: recognised, parsed in memory, and its elements read. Files are untrusted."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

from gvsl.io.stream import BROKEN, one_line, silenced
from gvsl.io.volume import UnusableFile

MARK, MARK_AT = b"DICM", 128
HEAD_BYTES = MARK_AT + len(MARK)
META_GROUP, FIRST_GROUP = 2, 8
"""Group of a file's first element: file meta information, or the first group of the data set."""
MAX_FIRST_ELEMENT, MAX_FIRST_LENGTH = 0x1FF, 2**10
"""Limits for the first element's number and length, by which files without the mark are recognised."""
REPRESENTATIONS = {kind.value for kind in VR if len(kind.value) == 2}
BARE_HEADER_BYTES = 2**20
"""Bytes that are searched for the header of a file without the mark."""
MAX_FILE_BYTES = 2**31
"""Limit for a file of a series; a slice has less than a thousandth of it."""
DICOM_BROKEN = (*BROKEN, AttributeError, RuntimeError, AssertionError, BytesLengthException, struct.error)
"""Exceptions that pydicom raises on malformed files; NotImplementedError is a RuntimeError."""


def is_dicom(path: Path) -> bool:
    """Return True if a file begins as DICOM does; OSError if it can't be read."""
    with path.open("rb") as stream:
        return begins_as_dicom(stream.read(HEAD_BYTES))


def begins_as_dicom(head: bytes) -> bool:
    """Return True if the first bytes of a file have DICOM's mark, or look like DICOM written without it."""
    return _is_marked(head) or _is_bare(head)


def read_header(path: Path, names: Sequence[str]) -> FileDataset:
    """Read the elements `names` of a file."""
    with parsing(path), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        stream = BytesIO(_marked(file.read(BARE_HEADER_BYTES))) if _is_bare(head) else file
        _check_encoding(stream, path)
        stream.seek(0)
        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(names))


def read_whole(path: Path) -> FileDataset:
    """Read a file with its voxels; from memory, so that no length it claims can exceed what is there."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UnusableFile(f"{path.name} has more than {MAX_FILE_BYTES:,} bytes")
    content = _marked(path.read_bytes())
    _check_encoding(BytesIO(content), path)
    return pydicom.dcmread(BytesIO(content))


@contextmanager
def parsing(path: Path | None = None) -> Iterator[None]:
    """Silence pydicom, and turn its exceptions on a broken file into UnusableFile with the file's name."""
    named = "" if path is None else f"{path.name} "
    try:
        with silenced(getLogger("pydicom")):
            yield
    except (UnusableFile, FileNotFoundError):
        raise
    except InvalidDicomError:
        raise UnusableFile(f"{named}is not a DICOM file") from None
    except DICOM_BROKEN as error:
        raise UnusableFile(f"{named}can't be read as DICOM ({one_line(error)})") from None


def values_of(header: FileDataset, name: str) -> list[Any]:
    """Return an element's values; none if it is missing or empty."""
    value = header.get(name)
    if value is None or isinstance(value, str):
        return [] if not value else [value]
    return list(value) if hasattr(value, "__iter__") else [value]


def numbers_of(header: FileDataset, name: str) -> NDArray[np.float64]:
    """Return an element's numbers; none if it is missing or a value isn't finite."""
    found = np.array([float(value) for value in values_of(header, name)])
    return found if np.isfinite(found).all() else np.array([])


def number_of(header: FileDataset, name: str, default: float) -> float:
    """Return an element's only number."""
    if header.get(name) in (None, ""):
        return default
    found = numbers_of(header, name)
    if found.size != 1:
        raise UnusableFile(f"its header has {name} {header.get(name)}")
    return float(found[0])


def whole_number_of(header: FileDataset, name: str, default: int | None = None) -> int:
    """Return an element's whole number; without `default` it is required."""
    value = header.get(name)
    if value in (None, ""):
        if default is None:
            raise UnusableFile(f"its header has no {name}")
        return default
    return int(value)


def _is_marked(head: bytes) -> bool:
    return head[MARK_AT:HEAD_BYTES] == MARK


def _is_bare(head: bytes) -> bool:
    """Return True if a file begins with an element of group 2 or 8, little-endian, without preamble and mark."""
    if len(head) < 8 or _is_marked(head):
        return False
    group, element, length = struct.unpack("<HHI", head[:8])
    plausible = _is_explicit(head) or length <= MAX_FIRST_LENGTH
    return group in (META_GROUP, FIRST_GROUP) and element <= MAX_FIRST_ELEMENT and plausible


def _is_explicit(content: bytes) -> bool:
    return content[4:6].decode("latin-1") in REPRESENTATIONS


def _marked(content: bytes) -> bytes:
    """Add the mark to a file without it, and the default encoding if the file has no meta information."""
    if not _is_bare(content[:HEAD_BYTES]):
        return content
    meta = b""
    if int.from_bytes(content[:2], "little") != META_GROUP:
        uid = (ExplicitVRLittleEndian if _is_explicit(content) else ImplicitVRLittleEndian).encode()
        uid += bytes(len(uid) % 2)
        meta = struct.pack("<HH2sH", META_GROUP, 0x10, b"UI", len(uid)) + uid
    return bytes(MARK_AT) + MARK + meta + content


def _check_encoding(stream: BinaryIO, path: Path) -> None:
    """Refuse a deflated file: it would be decompressed whole, whatever its size, before it could be checked."""
    if not _is_marked(stream.read(HEAD_BYTES)):
        raise InvalidDicomError
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_behind_meta)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UnusableFile(f"{path.name} is deflated as a whole; save it uncompressed")
    if "TransferSyntaxUID" not in meta:
        raise UnusableFile(f"{path.name} has no TransferSyntaxUID")


def _behind_meta(tag: BaseTag, representation: str | None, length: int) -> bool:
    return tag.group != META_GROUP
