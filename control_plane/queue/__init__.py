"""Whose turn it is: callers take turns in a pool and on a stack, and stacks take turns within a caller's."""
