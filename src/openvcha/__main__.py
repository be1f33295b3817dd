"""Runs the command line: `python -m openvcha`."""

import sys
from pathlib import Path

from openvcha.cli import direct

if __name__ == "__main__":
    if direct.is_direct(sys.argv[1:]):
        direct.run(sys.argv[2], Path(sys.argv[3]))
    else:
        from openvcha.cli.main import main

        main()
