"""Rego and JSON Schema that ship with Interlock; control_plane/policies/library.py reads them."""
