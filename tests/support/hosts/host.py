"""One host: namespaces of its own for network, processes, mounts and name, and an SSH server."""

import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from tests.support.hosts import namespaces, plan
from tests.support.waiting import until

from openvcha.infrastructure.hosts.checks import HOME

Cable = Literal["mgmt", "ha"]
CABLES: Final[tuple[Cable, ...]] = get_args(Cable)

SSHD = "/usr/sbin/sshd"
SSH_PORT = 22
POWER_ON_SECONDS = 60
RUN_SECONDS = 60
NODE_ACCOUNT_ID = 4000

# sshd, the host's process 1, takes the end of each process whose parent has ended.
BOOT = """
set -e
hostname "$1"
for each in etc srv; do mount --bind "$2/$each" "/$each"; done
mount -t tmpfs run /run
mkdir /run/sshd /run/lib
# openvcha is where `vcha host prepare` installs it, beside what this machine has there.
mount --bind /usr/local/lib /run/lib
mount --bind "$2/lib" /usr/local/lib
exec "$3" -D -e -f "$2/sshd_config"
"""


@dataclass
class Host:
    """A host that is plugged into the switch by two cables, `mgmt` and `ha`.

    ``directory`` has its files: `etc` and `srv` are its own /etc and /srv, `console` what its SSH
    server says. A ``prepared`` one has openvcha. Else it shares the machine's disk, and its clock.
    """

    number: int
    prefix: str
    directory: Path
    subnets: tuple[plan.Subnets, ...]
    prepared: bool = False
    _power: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return its host name, which is also that of its network namespace."""
        return f"{self.prefix}-h{self.number}"

    @property
    def management(self) -> str:
        """Return its address in the management network, of the first family."""
        return str(self.subnets[0].management[plan.FIRST_HOST - 1 + self.number])

    @property
    def ha(self) -> str:
        """Return its address in the HA network, of the first family."""
        return str(self.subnets[0].ha[plan.FIRST_HOST - 1 + self.number])

    @property
    def host_key(self) -> str:
        """Return the public key of its SSH server: type and base64."""
        return " ".join((self.directory / "hostkey.pub").read_text().split()[:2])

    @property
    def is_on(self) -> bool:
        """Return whether its processes run."""
        return self._power is not None and self._power.poll() is None

    def install(self, client_key: Path) -> None:
        """Make its disk and its SSH server's keys; root may log in with the client's key."""
        (self.directory / "srv").mkdir(parents=True)
        self._install_openvcha()
        subprocess.run(["cp", "-a", "/etc", self.directory], check=True, timeout=RUN_SECONDS)
        make_key(self.directory / "hostkey", self.name)
        (self.directory / "authorized_keys").write_text(client_key.with_suffix(".pub").read_text())
        (self.directory / "sshd_config").write_text(self._sshd_config())

    def _install_openvcha(self) -> None:
        libraries = self.directory / "lib"
        libraries.mkdir()
        for each in Path("/usr/local/lib").iterdir():
            (libraries / each.name).symlink_to(f"/run/lib/{each.name}")
        if self.prepared:
            (libraries / Path(HOME).name).symlink_to(sys.prefix)

    def add_account(self, name: str) -> None:
        """Add an account to the host that logs in with the client's key."""
        account = f"{name}:x:{NODE_ACCOUNT_ID}:{NODE_ACCOUNT_ID}::/srv:/bin/sh\n"
        for file, line in (
            ("passwd", account),
            ("group", f"{name}:x:{NODE_ACCOUNT_ID}:\n"),
            ("shadow", f"{name}:*:20000:0:99999:7:::\n"),
        ):
            with (self.directory / "etc" / file).open("a") as lines:
                lines.write(line)

    def power_on(self) -> None:
        """Plug it in and boot it; return when its SSH server answers."""
        assert not self.is_on
        self._plug()
        command = [
            # However this run ends, the host is off then.
            *("setpriv", "--pdeathsig", "KILL"),
            *("ip", "netns", "exec", self.name),
            *("unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", BOOT, "boot", self.name, str(self.directory), SSHD),
        ]
        with (self.directory / "console").open("ab") as console:
            self._power = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        until(self._answers, POWER_ON_SECONDS, seen=self._console)

    def power_off(self) -> None:
        """Cut its power: it is silent at once, and its processes and addresses are gone."""
        self._unplug()
        if self._power is not None:
            self._power.kill()
            self._power.wait()
            self._power = None
        namespaces.remove(self.name)

    def cut(self, cable: Cable) -> None:
        """Cut a cable: its interface loses the carrier, and keeps its addresses."""
        self._switch(cable, "down")

    def heal(self, cable: Cable) -> None:
        """Plug a cable in again."""
        self._switch(cable, "up")

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command as root on its console, and return its output; it must succeed."""
        done = subprocess.run(
            ["nsenter", f"--target={self._process_1}", "--all", "--", *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command} on {self.name}: {done.returncode}, {done.stderr}"
        return done.stdout

    @property
    def _process_1(self) -> int:
        assert self._power is not None
        pid = self._power.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _switch(self, cable: Cable, state: str) -> None:
        line = f"link set {cable}-{self.number} {state}"
        namespaces.network(line, namespace=f"{self.prefix}-sw")

    def _plug(self) -> None:
        switch = f"{self.prefix}-sw"
        namespaces.add(self.name)
        for index, cable in enumerate(CABLES):
            port = f"{cable}-{self.number}"
            # The same after each power-off, as on a real host: others remember it for 30 s.
            mac = f"02:00:00:00:{index:02x}:{self.number:02x}"
            namespaces.network(
                f"link add {cable} address {mac} type veth peer name {port} netns {switch}",
                f"link set {cable} up",
                namespace=self.name,
            )
            namespaces.network(f"link set {port} master br-{cable} up", namespace=switch)
        lines = [line for subnets in self.subnets for line in subnets.lines(self.number)]
        namespaces.network(*lines, namespace=self.name)

    def _unplug(self) -> None:
        # The kernel removes a namespace's interfaces some time after it has gone.
        switch = f"{self.prefix}-sw"
        ports = {f"{cable}-{self.number}" for cable in CABLES}
        for port in sorted(ports & set(namespaces.interfaces(switch))):
            namespaces.network(f"link del {port}", namespace=switch)

    def _answers(self) -> bool:
        assert self.is_on, self._console()
        with namespaces.entered(f"{self.prefix}-sw"):
            try:
                socket.create_connection((self.management, SSH_PORT), timeout=1).close()
            except OSError:
                return False
        return True

    def _console(self) -> str:
        return (self.directory / "console").read_text()[-2000:]

    def _sshd_config(self) -> str:
        addresses = [each.management[plan.FIRST_HOST - 1 + self.number] for each in self.subnets]
        lines = [
            *(f"ListenAddress {address}" for address in addresses),
            f"HostKey {self.directory}/hostkey",
            f"AuthorizedKeysFile {self.directory}/authorized_keys",
            "PidFile none",
            "StrictModes no",
            "PasswordAuthentication no",
            "UsePAM no",
            "MaxStartups 100",
            "Subsystem sftp internal-sftp",
        ]
        return "".join(f"{line}\n" for line in lines)


def make_key(path: Path, comment: str) -> None:
    """Create an SSH key without a passphrase, and its public part beside it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=RUN_SECONDS,
    )
