"""The control plane: who may run what where, one at a time, and what became of it."""
