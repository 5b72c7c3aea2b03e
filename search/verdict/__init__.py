"""Judges from the figures of folds which configurations may be the best."""
