"""Pools, their tokens and their runners."""
