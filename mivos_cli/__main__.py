"""`python -m mivos_cli` is `mivos`."""

from mivos_cli.app import main

main()
