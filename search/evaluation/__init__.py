"""The final evaluation: rounds, and the models that are kept of them."""
