"""What the database holds: schemas, tables, users, privileges and the models that embed."""
