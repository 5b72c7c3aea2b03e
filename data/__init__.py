"""Where images come from, how pairs are drawn from them, and how pairs are divided into folds."""
