"""``python -m ssl3d``."""

from ssl3d.cli import main

if __name__ == "__main__":  # processes that are started for several devices import this file, too
    main()
