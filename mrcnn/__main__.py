"""`python -m mrcnn` is the `mrcnn` command."""

from mrcnn.cli import main

main()
