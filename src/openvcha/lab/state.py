"""The state of a lab: its directory, its addresses, its users."""

import secrets
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import folded
from openvcha.client.errors import CommandError
from openvcha.lab.settings import LabSettings
from openvcha.node.identity import Ports
from openvcha.node.postgres.own_names import APPLICATION_DATABASE, APPLICATION_USER
from openvcha.node.postgres.tls import trusting
from openvcha.system.files.durable import write_durably
from openvcha.system.files.regular_files import read_regular

ADMINISTRATOR = "administrator@vsphere.local"
READER = "reader@vsphere.local"
PASSWORD_BYTES = 15


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """One lab: ``octet`` is the second octet of all its addresses, 127.OCTET.x.y.

    ``settings`` are those with which it was created.
    """

    name: str
    octet: int
    cluster_id: str
    settings: LabSettings = LabSettings()

    @property
    def management_subnet(self) -> str:
        """Return the subnet of the public address."""
        return f"127.{self.octet}.1.0/24"

    @property
    def ha_subnet(self) -> str:
        """Return the subnet of the HA addresses."""
        return f"127.{self.octet}.2.0/24"

    @property
    def public_address(self) -> str:
        """Return the address of the service."""
        return f"127.{self.octet}.1.10"

    @property
    def api(self) -> str:
        """Return the URL of the API's server."""
        return f"https://{self.public_address}:{Ports().api}"

    def ha_address(self, number: int) -> str:
        """Return the HA address of a node by number; 1 to 3 are a lab's first nodes."""
        return f"127.{self.octet}.2.{10 + number}"


class Lab:
    """The files of one lab below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.infrastructure = self.directory / "infrastructure"
        self.ca = self.directory / "ca.crt"
        self.passwords_file = self.directory / "passwords.json"
        self.pgpass = self.directory / "pgpass"
        self.state_file = self.directory / "lab.json"

    @property
    def exists(self) -> bool:
        """Return whether the lab was ever created."""
        return self.state_file.exists()

    def state(self) -> LabState:
        """Return the lab's state. Raises CommandError if it is missing or unreadable."""
        try:
            return msgspec.json.decode(read_regular(self.state_file), type=LabState)
        except (OSError, msgspec.DecodeError) as error:
            raise CommandError(f"{self.state_file} cannot be read: {error}") from error

    def make(self, state: LabState) -> None:
        """Write the lab's state, and passwords for its users; idempotent."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.passwords_file.exists():
            names = (ADMINISTRATOR, READER, APPLICATION_USER)
            self._save({name: secrets.token_urlsafe(PASSWORD_BYTES) for name in names})
        if not self.pgpass.exists():
            password = self.password(APPLICATION_USER).reveal()
            line = f"{state.public_address}:*:*:{APPLICATION_USER}:{password}\n"
            write_durably(self.pgpass, line.encode())
        if not self.exists:
            write_durably(self.state_file, msgspec.json.encode(state))

    def knows(self, user: str) -> bool:
        """Return whether the lab keeps this API user's password. Raises CommandError."""
        return self._key(user) is not None

    def password(self, user: str) -> Secret:
        """Return a user's password. Raises CommandError."""
        found = self._passwords().get(self._key(user) or user)
        if found is None:
            raise CommandError(f"{self.passwords_file} has no password for {user}")
        return Secret(found)

    def update_password(self, user: str, password: Secret) -> bool:
        """Replace a user's password, if this lab keeps it, and return whether it does."""
        key = self._key(user)
        if key is None:
            return False
        self._save(self._passwords() | {key: password.reveal()})
        return True

    def _key(self, user: str) -> str | None:
        """Return the key of an API user, ignoring case as the API does; never a database role."""
        names = (name for name in self._passwords() if name != APPLICATION_USER)
        return next((name for name in names if folded(name) == folded(user)), None)

    def database(self, tls: bool) -> dict[str, str]:
        """Return libpq's parameters for PostgreSQL at the public address.

        They name a file with the password. The certificate is for the public address.
        """
        proof = trusting(self.ca, "verify-full") if tls else {}
        return {
            "host": self.state().public_address,
            "port": str(Ports().postgres),
            "dbname": APPLICATION_DATABASE,
            "user": APPLICATION_USER,
            "passfile": str(self.pgpass),
            **proof,
        }

    def _passwords(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(read_regular(self.passwords_file), type=dict[str, str])
        except (OSError, msgspec.DecodeError) as error:
            raise CommandError(f"{self.passwords_file} cannot be read: {error}") from error

    def _save(self, passwords: dict[str, str]) -> None:
        write_durably(self.passwords_file, msgspec.json.encode(passwords))


prepare(__name__)
