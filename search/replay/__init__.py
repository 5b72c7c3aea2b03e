"""A finished study searched again without training: what samplers would have found, and what stopping early loses."""
