"""Workers on clusters: each engine starts, counts and ends them; the ledger says what is left."""
