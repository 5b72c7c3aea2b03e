"""Studies: their definitions as TOML files, and the model that validates them."""
