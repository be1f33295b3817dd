"""The search for secrets does find them: in every encoding, in files, their names and processes."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.marks import Marks, Sampler, file_leaks

SECRET = "s3cret+with/odd=Chars"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"prefix{SECRET}suffix",
        quote(SECRET, safe=""),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        *(base64.b64encode(b"u" * n + b":" + SECRET.encode() + b"!").decode() for n in range(4)),
        *(base64.urlsafe_b64encode(b"u" * n + SECRET.encode()).decode() for n in range(4)),
    ],
)
def test_a_planted_secret_is_found_in_every_form(written: str, tmp_path: Path) -> None:
    """In a file's content or in its name."""
    marks = Marks()
    marks.add("it", SECRET)
    (tmp_path / "file.log").write_text(written)
    assert file_leaks(marks, [tmp_path]) == {f"it in {tmp_path / 'file.log'}"}
    (tmp_path / "file.log").write_text("nothing")
    assert file_leaks(marks, [tmp_path]) == set()


def test_a_holder_is_for_its_owner_only(tmp_path: Path) -> None:
    """The few files that may hold secrets must not be readable by others."""
    marks = Marks()
    marks.add("it", SECRET)
    holder = tmp_path / "secrets.json"
    holder.write_text(SECRET)
    holder.chmod(0o600)
    assert file_leaks(marks, [tmp_path]) == set()
    holder.chmod(0o640)
    assert len(file_leaks(marks, [tmp_path])) == 1


def test_what_processes_show_is_seen() -> None:
    """In the environment and on the command line of a process that lives only for a moment."""
    marks = Marks()
    marks.add("it", SECRET)
    wait = "import time; print(flush=True); time.sleep(600)"
    for argv, env in (
        ([sys.executable, "-c", wait, SECRET], dict(os.environ)),
        ([sys.executable, "-c", wait], {"X": SECRET}),
    ):
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
            # A program that is just being executed shows nothing for a moment.
            assert process.stdout
            process.stdout.readline()
            sampler = Sampler()
            sampler.look()
            process.kill()
        assert sampler.leaks(marks)


def test_a_private_key_is_known_by_a_line_of_it(tmp_path: Path) -> None:
    """And by its content."""
    body = base64.b64encode(os.urandom(138)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    marks = Marks()
    marks.add_key("key", f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n")
    (tmp_path / "log").write_text(f"... {lines} ...")
    assert file_leaks(marks, [tmp_path])
