"""Synthetic subjects with known anatomy: hearts, coronary arteries, brains and lungs."""
