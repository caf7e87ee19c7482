"""Several control planes on one database: who is there, whose runner is whose, and what they tell each other."""
