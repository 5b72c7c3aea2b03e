"""Programs behind published numbers; nothing imports them."""
