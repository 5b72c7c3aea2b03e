"""Programs that measure or write published numbers; no other room imports them."""
