"""Together's HTTP API: its routes, bodies, replies and catalogue."""
