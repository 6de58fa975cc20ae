"""``python -m ssl3d``."""

from ssl3d.cli import main

if __name__ == "__main__":  # processes started for several devices also import this file
    main()
