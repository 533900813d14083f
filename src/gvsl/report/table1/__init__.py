"""Table 1 of the paper, computed from run records and written in three formats."""
