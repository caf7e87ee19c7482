"""Principals, API keys and access tokens."""
