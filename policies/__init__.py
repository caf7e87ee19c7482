"""Rego and JSON Schema that ship with Interlock, and in workbench/ what authors' texts are checked with."""
