"""Scores of predictions and their bootstrap intervals. Import from its modules; bootstrap and ranking need no torch."""
