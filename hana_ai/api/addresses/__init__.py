"""What an address, a proxy and a fallback target are; no I/O."""
