"""One worker, or a pool of them watched to its end."""
