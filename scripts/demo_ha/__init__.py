"""The demonstration of several replicas: `make demo-ha`."""
