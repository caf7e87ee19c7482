"""How many runs may be active or wait at once, and for how long: what admins set, and what is counted against it."""
