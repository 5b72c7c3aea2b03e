"""Images in, pairs out: where the digits come from, how pairs are drawn, how they are split into folds."""
