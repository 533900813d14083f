"""Prepared volumes on disk: chunked, compressed, and read by box."""

from gvsl.store.audit import duplicates, refuse_seen
from gvsl.store.classes import class_indices
from gvsl.store.describe import describe, describe_lungs
from gvsl.store.store import Store, StoredCase
from gvsl.store.verify import Verified, verify

__all__ = [
    "Store",
    "StoredCase",
    "Verified",
    "class_indices",
    "describe",
    "describe_lungs",
    "duplicates",
    "refuse_seen",
    "verify",
]
