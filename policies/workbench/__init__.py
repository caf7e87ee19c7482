"""The author's side of policies: from a text to a module that may be loaded, or to all that is wrong with it.

Shared by the CLI and the control plane; needs nothing but Python and `opa`.
"""
