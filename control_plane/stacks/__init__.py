"""Stacks: source, tool, environment, lock."""
