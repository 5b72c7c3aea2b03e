"""The search service: ledger, workers, evaluation and the command line."""
