"""Rego policies: checked, loaded into OPA, attached to stacks, evaluated."""
