"""The audit log: written with each change, sealed into a hash chain."""
