"""The ledger's copy in Optuna, for its dashboard, samplers and pruners: the only room that knows Optuna."""
