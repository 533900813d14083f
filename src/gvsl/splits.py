"""The names of the splits of a dataset."""

HELD_OUT = ("val", "test")
"""The splits that are scored, and never trained on."""
SPLITS = ("pretrain", "train", *HELD_OUT)
"""All splits. A `train` case is usually in `pretrain` too; a `val` or `test` case never is."""
