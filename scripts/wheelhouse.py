"""Write the requirements.txt of a folder of wheels: each by its name, version and hash."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path


def requirements(folder: Path) -> Iterator[str]:
    """Yield a line for each wheel; pip then accepts no other file for it."""
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        yield f"{name}=={version} --hash=sha256:{digest}"


if __name__ == "__main__":
    wheels = Path(sys.argv[1])
    (wheels / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements(wheels)))
