"""The matrix of Table 1: methods x stores x modes x seeds, each run named by everything that decides its results."""
