"""The report's sections, one file each: runs in, HTML out."""
