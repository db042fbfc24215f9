"""A server on 127.0.0.1 that speaks HANA's SQL Command Network Protocol, with DuckDB as its engine."""
