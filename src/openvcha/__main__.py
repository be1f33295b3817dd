"""Runs the command line: `python -m openvcha`."""

from openvcha.cli.main import main

if __name__ == "__main__":
    main()
