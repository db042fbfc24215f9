"""SQLScript: scripts are compiled to programs once, and run by an interpreter."""
