"""Labels carried from a few labelled volumes onto unlabelled ones by matching."""

from gvsl.propagation.carry import Atlas, Carried, carry
from gvsl.propagation.settings import PoolSettings, PropagationSettings
from gvsl.propagation.vote import fuse

__all__ = ["Atlas", "Carried", "PoolSettings", "PropagationSettings", "carry", "fuse"]
