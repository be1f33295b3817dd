"""Searching for leaked secrets in files, processes and answers, in every common encoding."""

import base64
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

SAMPLE_SECONDS = 0.05
SHORTEST = 12
HOLDERS = re.compile(
    r"\.?(secrets\.json|account\.json|renewal\.json|patroni\.yml|passwords\.json|([a-z]+\.)?pgpass|[a-z-]+\.key)(\.new)?"
)
"""Files that are there to hold secrets, by their names."""


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it is, URL-quoted, in hexadecimal, and within base64 text.

    Base64 encodes it differently at each of three offsets from the beginning: only the characters
    that depend on the secret alone are yielded.
    """
    text = secret.decode("latin-1")
    yield from {secret, quote(text, safe="").encode(), text.encode("utf-16-le")}
    yield from {secret.hex().encode(), secret.hex().upper().encode()}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret)
        begin, end = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        yield from (coded[begin:end], coded[begin:end].translate(URL_SAFE))


URL_SAFE = bytes.maketrans(b"+/", b"-_")


@dataclass
class Marks:
    """The secrets to search for: their names and values."""

    known: dict[bytes, str] = field(default_factory=dict)

    def add(self, name: str, secret: str | bytes) -> None:
        """Add a secret to search for, in all its forms."""
        data = secret.encode() if isinstance(secret, str) else secret
        assert len(data) >= SHORTEST, f"{name} is too short to be recognized"
        for form in forms(data):
            self.known.setdefault(form, name)

    def add_key(self, name: str, pem: str) -> None:
        """Add a private key: each of its lines, and the bytes they encode."""
        lines = [line for line in pem.splitlines() if line and "-----" not in line]
        self.add(name, lines[1] if len(lines) > 1 else lines[0])
        self.add(name, base64.b64decode("".join(lines))[40:])

    def found(self, data: bytes) -> set[str]:
        """Return the names of the secrets that occur in the data."""
        return {name for form, name in self.known.items() if form in data}


class Sampler:
    """Records what all processes of this machine expose of themselves, during a block."""

    def __init__(self) -> None:
        self.seen: dict[bytes, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        """Read the command line and the environment of all other processes."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                for name in ("cmdline", "environ"):
                    self._keep(process / name)

    def _keep(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError:
            return  # the process has ended, or is the kernel's
        self.seen.setdefault(hashlib.sha256(data).digest(), data)

    def leaks(self, marks: Marks) -> set[str]:
        """Return which secrets were seen."""
        whole = b"\n".join(self.seen.values())
        return {f"{name} in a command line or an environment" for name in marks.found(whole)}


def file_leaks(marks: Marks, tops: Iterable[Path], *, since: float = 0.0) -> set[str]:
    """Return the secrets found outside the files that may hold them, and holders others can read.

    Names of files are searched as well as their content. Files older than ``since`` (seconds) are
    skipped.
    """
    found: set[str] = set()
    files = {path for top in tops for path in _below(top)}
    suspects = _with_any(marks, files)
    for path in sorted(files):
        try:
            state = path.lstat()
            if not path.is_file() or path.is_symlink() or state.st_mtime < since:
                continue
            secrets = marks.found(os.fsencode(path.name))
            if path in suspects:
                secrets |= marks.found(path.read_bytes())
        except OSError:
            continue  # deleted meanwhile
        if not HOLDERS.fullmatch(path.name):
            found |= {f"{name} in {path}" for name in secrets}
        elif secrets and state.st_mode & 0o077:
            found.add(f"{path} may be read by others: {state.st_mode & 0o777:o}")
    return found


def _with_any(marks: Marks, files: Iterable[Path]) -> set[Path]:
    """Return the files that contain any of the secrets, with one grep pass over each file.

    A form with a line feed is searched for by its longest part without one.
    """
    parts = {max(form.split(b"\n"), key=len) for form in marks.known}
    assert all(len(part) >= SHORTEST // 2 for part in parts)
    names = b"\0".join(os.fsencode(path) for path in files if path.is_file())
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"\n".join(parts))
        patterns.flush()
        done = subprocess.run(
            ["xargs", "-0", "-r", "grep", "-slaF", "-Z", "-f", patterns.name, "--"],
            input=names,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    assert not done.stderr, done.stderr
    return {Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name}


def _below(top: Path) -> Iterator[Path]:
    yield from (path for path in top.rglob("*")) if top.is_dir() else [top]
