"""`vcha host prepare` for a host by SSH."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.hosts.hosts import Hosts

from openvcha.infrastructure.hosts.host_key import fingerprint


def prepare(hosts: Hosts, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command for a host, by the client's key and without a terminal."""
    words = ("host", "prepare", hosts[number].management, "--key", str(hosts.client_key))
    return subprocess.run(
        [sys.executable, "-m", "openvcha", *words, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_host_is_looked_at_once_its_key_is_accepted(hosts: Hosts, tmp_path: Path) -> None:
    """A script is never asked, and trusts nobody by itself."""
    known = ("--known-hosts", str(tmp_path / "ssh" / "known"))
    unknown = prepare(hosts, 1, *known)
    assert unknown.returncode == 1
    right = fingerprint(hosts[1].host_key)
    assert f"add --accept-key {right}" in unknown.stderr
    wrong = prepare(hosts, 1, *known, "--accept-key", fingerprint(hosts[2].host_key))
    assert wrong.returncode == 1
    assert f"offers the host key {right}, not" in wrong.stderr
    found = prepare(hosts, 1, *known, "--accept-key", right, "--json", "--datastore", "/srv/nodes")
    assert found.returncode == 1, found.stderr
    findings = {each["subject"]: each for each in json.loads(found.stdout)["findings"]}
    assert findings["python"]["verdict"] == "OK"
    assert findings["clock"]["verdict"] == "OK"
    assert findings["ports"]["verdict"] == "OK"
    assert findings["openvcha"]["verdict"] == "MISSING"
    assert "/srv/nodes" in findings["space"]["text"]
    assert not (tmp_path / "ssh").exists()


def test_a_known_host_needs_no_question_and_a_changed_one_is_refused(
    hosts: Hosts, tmp_path: Path
) -> None:
    """The port that a program has taken there is told with its address."""
    known = tmp_path / "known"
    known.write_text(f"{hosts[1].management} {hosts[1].host_key}\n")
    listen = "import socket, time; s = socket.create_server(('', 5432)); time.sleep(600)"
    taken = f'setsid {sys.executable} -c "{listen}" >/dev/null 2>&1 </dev/null & echo $!'
    pid = hosts[1].run("sh", "-c", taken).strip()
    hosts[1].run("sh", "-c", "until grep -q :1538 /proc/net/tcp; do sleep 0.05; done")
    found = prepare(hosts, 1, "--known-hosts", str(known))
    hosts[1].run("kill", pid)
    assert found.returncode == 1
    assert "MISSING  ports       TCP 5432 (PostgreSQL) is taken" in found.stdout
    known.write_text(f"{hosts[1].management} {hosts[2].host_key}\n")
    changed = prepare(hosts, 1, "--known-hosts", str(known))
    assert (changed.returncode, changed.stdout) == (1, "")
    assert "presents a different host key" in changed.stderr
