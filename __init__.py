"""pairsearch: hyperparameter search over the complete grid, each configuration exactly once."""
