"""The runner: takes runs from the control plane, executes each in a container, streams its masked output."""
