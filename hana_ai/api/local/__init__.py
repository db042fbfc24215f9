"""Loopback servers: Together's HTTP API and HANA's wire protocol on 127.0.0.1, for demos and tests."""
