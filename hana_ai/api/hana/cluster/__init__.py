"""A job in parts, done by workers on several machines: who hands out the parts, the places and the money."""
