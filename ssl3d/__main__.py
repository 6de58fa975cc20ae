"""``python -m ssl3d``."""

from ssl3d.cli import main

main()
