"""A thief who copied a node's directory while it was a member, and what the copy still opens."""

import shutil
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from openvcha.node.engines import find_engines
from openvcha.node.etcd.account import ACCOUNT, NodeAccount
from openvcha.node.identity import Identity, load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import REST_USER
from openvcha.node.postgres.leader import superuser_conninfo
from openvcha.node.postgres.own_names import REPLICATION_USER, REWIND_USER
from openvcha.node.security.certificates import issue
from openvcha.node.security.issuing import load_authorities
from openvcha.node.security.tls import NodeTls
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.system.network.host_port import url

KEPT = ("node.json", "secrets.json", ACCOUNT, "tls")


@dataclass(frozen=True)
class StolenCredentials:
    """Connects to the active at ``target`` with a copy of another node's files."""

    layout: Layout
    target: Identity

    @property
    def data(self) -> bool:
        """Return whether the files are those of a data node."""
        return load_identity(self.layout.root).holds_data

    async def opened(self) -> list[str]:
        """Return the names of what lets the thief in."""
        doors = {"etcd": await self.etcd(), "patroni": self.patroni()}
        if self.data:
            doors |= {user: self.postgres(user) for user in ("postgres", REWIND_USER)}
            doors |= {"replication": self.postgres(REPLICATION_USER, replication="true")}
            doors |= {"forged": await self.etcd(forged=True)}
        return sorted(name for name, open_ in doors.items() if open_)

    async def etcd(self, *, forged: bool = False) -> bool:
        """Read a key, also with a certificate just issued by the stolen authority."""
        tls = self.forged() if forged else NodeTls(self.layout)()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # a thief verifies nothing
        endpoint = url(self.target.ha_address, self.target.ports.etcd_client)
        try:
            account = NodeAccount(self.layout.root)
            async with Etcd([endpoint], lambda: tls, timeout=2.0, account=account) as store:
                await store.get("/")
        except StoreError:
            return False
        return True

    def forged(self) -> ssl.SSLContext:
        """Return a TLS context with a certificate that the stolen CA key has issued."""
        made = issue(load_authorities(self.layout.root).nodes, "vcha-9", ["127.0.0.1"])
        folder = self.layout.root / "forged"
        folder.mkdir(exist_ok=True)
        (folder / "crt").write_bytes(made.certificate)
        (folder / "key").write_bytes(made.key)
        context = ssl.create_default_context()
        context.load_cert_chain(folder / "crt", folder / "key")
        return context

    def patroni(self) -> bool:
        """Return whether Patroni accepts the credentials."""
        tls = NodeTls(self.layout)()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        place = url(self.target.ha_address, self.target.ports.patroni)
        auth = (
            (REST_USER, load_secrets(self.layout.root).patroni_rest.reveal()) if self.data else None
        )
        try:
            with httpx2.Client(verify=tls, trust_env=False, auth=auth) as http:
                return http.get(f"{place}/patroni").status_code < 400
        except httpx2.HTTPError:
            return False

    def session(self, user: str = "postgres", **changes: Any) -> psycopg.Connection[Any]:
        """Open a session as one of the cluster's own users. Raise psycopg.Error."""
        secrets = load_secrets(self.layout.root)
        known = {"postgres": secrets.superuser, REWIND_USER: secrets.rewind}
        password = known.get(user, secrets.replication).reveal()
        postgres = find_engines().postgres
        port = self.target.ports.postgres
        place = superuser_conninfo(self.target.ha_address, port, self.layout, secrets, postgres)
        sslmode = {"sslmode": "require", "sslrootcert": ""} if postgres.has_tls else {}
        # Without the options of a superuser's session, which other users may not set.
        settings = {"options": "", **sslmode, **changes}
        return psycopg.connect(place, user=user, password=password, **settings)

    def postgres(self, user: str, **changes: Any) -> bool:
        """Return whether PostgreSQL lets a user log in with the credentials."""
        try:
            self.session(user, **changes).close()
        except psycopg.Error:
            return False
        return True


def copied(source: Path, target: Path, active: Identity) -> StolenCredentials:
    """Copy the files that make a node a member."""
    target.mkdir()
    for name in KEPT:
        found = source / name
        if found.is_dir():
            shutil.copytree(found, target / name)
        elif found.exists():
            shutil.copy2(found, target / name)
    return StolenCredentials(Layout(target), active)


def everything(data: bool) -> Sequence[str]:
    """Return the names of everything that a copy opens while its node is a member."""
    doors = ["etcd", "patroni"]
    return sorted([*doors, "forged", "postgres", "replication", REWIND_USER] if data else doors)
