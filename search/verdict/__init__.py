"""What the figures of folds can and cannot tell about the best configuration."""
