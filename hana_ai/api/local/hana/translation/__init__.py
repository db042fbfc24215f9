"""HANA's queries and expressions translated to DuckDB's."""
