"""What an address, a proxy and a fallback target are, and whether `.env` can be read."""
