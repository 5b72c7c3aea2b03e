"""Asks Optuna's samplers and pruners, on studies in memory; it knows no database."""
