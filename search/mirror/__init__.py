"""Mirrors the ledger in Optuna, for its dashboard, samplers and pruners; no other room imports Optuna."""
