"""The database's history, one file a revision under versions/."""
