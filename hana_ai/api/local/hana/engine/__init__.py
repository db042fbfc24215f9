"""HANA's statements run on DuckDB: connections, transactions, journal, DDL and DML."""
