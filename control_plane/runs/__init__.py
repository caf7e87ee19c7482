"""Runs: states, queue, slot, gate, output and watchers."""
