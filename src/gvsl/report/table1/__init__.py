"""Table 1 of the paper, computed from groups of comparable runs and written in three formats."""
