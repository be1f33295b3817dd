"""Runs the command line: `python -m openvcha`."""

import sys
from pathlib import Path

from openvcha.cli import direct

if __name__ == "__main__":
    if direct.is_node_run(sys.argv[1:]):
        direct.run(Path(sys.argv[3]))
    else:
        from openvcha.cli.main import main

        main()
