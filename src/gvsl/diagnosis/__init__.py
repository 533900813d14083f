"""What is wrong with a run: the findings of its record, and those of its weights."""

from gvsl.diagnosis.diagnose import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
