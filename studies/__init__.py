"""Studies: their definitions, the contract of a problem, and the problems that come with the package."""
