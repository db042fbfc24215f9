"""HANA's SQL Command Network Protocol: bytes to values and back, log-on, sessions and the server."""
