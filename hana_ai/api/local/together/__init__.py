"""A server on 127.0.0.1 that speaks Together's HTTP API, with small real models behind it."""
