"""SQLite and SAP HANA behind one face."""
