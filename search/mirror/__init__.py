"""Mirrors the ledger in Optuna's tables, for its dashboard and its tools."""
