"""./dev wheelhouse: what a host needs that reaches no registry."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.wheelhouse import requirements

from openvcha.node.service_manager.unit_files import installed_files

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_each_wheel_is_required_by_its_hash(tmp_path: Path) -> None:
    """Another file of the same name is refused."""
    (tmp_path / "b_c-2.0-py3-none-any.whl").write_bytes(b"two")
    (tmp_path / "a-1.0-cp311-cp311-linux_x86_64.whl").write_bytes(b"one")
    (tmp_path / "notes.txt").write_text("no wheel")
    digests = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    assert list(requirements(tmp_path)) == [
        f"a==1.0 --hash=sha256:{digests[0]}",
        f"b_c==2.0 --hash=sha256:{digests[1]}",
    ]


def test_a_folder_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    """Only an older wheelhouse is."""
    (tmp_path / "mine").write_text("kept")
    done = run(ROOT / "dev", "wheelhouse", tmp_path)
    assert done.returncode == 1
    assert "is not a wheelhouse" in done.stderr
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.soak
def test_a_host_without_a_registry_installs_from_it(tmp_path: Path) -> None:
    """Into a new environment; the wheel of openvcha has its files that are no modules."""
    wheels = tmp_path / "wheels"
    made = run(ROOT / "dev", "wheelhouse", wheels)
    assert made.returncode == 0, made.stderr
    again = run(ROOT / "dev", "wheelhouse", wheels)
    assert again.returncode == 0, again.stderr
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=300)
    pip = (home / "bin" / "pip", "install", "--no-index", "-f", wheels)
    installed = run(*pip, "-r", wheels / "requirements.txt")
    assert installed.returncode == 0, installed.stderr
    vcha = home / "bin" / "vcha"
    units = run(vcha, "systemd", "install", "--ssh", "--root", tmp_path / "root")
    assert (units.returncode, units.stderr) == (0, "")
    written = [str(tmp_path / "root" / file.path) for file in installed_files(vcha, ssh=True)]
    assert units.stdout.splitlines() == [f"written: {path}" for path in written]
    looked = run(vcha, "host", "prepare", "--json")
    assert '"findings"' in looked.stdout, looked.stderr
