"""`python -m interlock.cli`, the same as `interlock`."""

from interlock.cli import main

main()
