"""Labels carried from a few labelled volumes onto unlabelled ones by matching."""

from gvsl.propagation.carry import Atlas, Carried, carry
from gvsl.propagation.vote import fuse
from gvsl.settings.propagation import PoolSettings, PropagationSettings

__all__ = ["Atlas", "Carried", "PoolSettings", "PropagationSettings", "carry", "fuse"]
