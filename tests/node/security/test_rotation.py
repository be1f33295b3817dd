"""What lets a node in is made anew: all of it or nothing, whenever the node dies."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
import pytest
from tests.support.node_files import equal_secrets, issued_identity, write_files

from openvcha.api.secret import Secret
from openvcha.node.background import rotation_runner
from openvcha.node.background.rotation_runner import END_SESSIONS, RotationRunner
from openvcha.node.etcd.account import load_account, new_data_account
from openvcha.node.etcd.record_keys import RecordKeys
from openvcha.node.identity import SECRETS, Secrets, encode_secrets, load_secrets
from openvcha.node.layout import API_CERTIFICATE, Layout
from openvcha.node.security import rotation
from openvcha.node.security.certificates import api_certificate, new_authorities
from openvcha.node.security.issuing import load_authorities, node_files
from openvcha.node.security.rotation import in_place, load, put_in_place_at_start
from openvcha.node.security.rotation_files import ROTATED_SECRETS, OwnCredentials
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.account import Account
from openvcha.store.errors import AuthenticationFailed, RecordForged
from openvcha.store.memory import MemoryStore
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.system.files.durable import write_durably

pytestmark = pytest.mark.looptime

OLD = "old"
IDENTITY = issued_identity()


class Died(BaseException):
    """The node lost its power."""


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync no file: the machine keeps its power, and a slow disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Node:
    """A SIMULATED node: its files are real ones, its programs are what they have read of them."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory)
        self.dies_at = 0
        self.moments = 0
        self.sessions = 1
        self.recovering = False
        self.full = False
        """Patroni's configuration cannot be written."""
        self.etcd = True
        self.ready = asyncio.Event()
        self.passwords = asyncio.Lock()
        self.notes: dict[str, str] = {}
        both = new_authorities("lab")
        api = api_certificate(both.service, "127.2.2.2", "host")
        account = new_data_account()
        secrets = equal_secrets(OLD)
        write_files(
            directory, node_files(IDENTITY, both, secrets=secrets, api=api, account=account)
        )
        self.database = load_secrets(directory)
        self.records = MemoryStore()
        self.let_in = {account.name: account, "thief": new_data_account()}
        self.start()

    def start(self) -> None:
        """Start the node as its supervisor does."""
        put_in_place_at_start(self.layout)
        self.configured = self.secrets, load_account(self.layout.root)
        NodeTls(self.layout)()
        self.etcd = True
        self.trusted = dict.fromkeys(("etcd", "patroni", "postgres"), self.authority)
        self.patroni = self.configured

    @property
    def authority(self) -> bytes:
        return self.layout.ca.read_bytes()

    @property
    def secrets(self) -> Secrets:
        return load_secrets(self.layout.root)

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.dies_at:
            raise Died

    def mortal(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Let the node die before or after something is done."""

        def done(*arguments: Any) -> None:
            self.moment()
            act(*arguments)
            self.moment()

        return done

    # --- what the job works with

    def view(self) -> Any:
        return SimpleNamespace(
            identity=IDENTITY,
            layout=self.layout,
            engines=SimpleNamespace(postgres=None),
            events=SimpleNamespace(info=lambda *_, **__: None),
            control=self,
            store=self.store(),
        )

    def store(self) -> "Records":
        """Open the records as the node does."""
        return Records(self)

    async def grant_all(self, account: Account) -> None:
        """Grant an account access, as the node's own account."""
        self.ask_for_account()
        self.moment()
        self.let_in[account.name] = account
        self.moment()

    async def revoke_others(self, own: Account, others: dict[str, Any]) -> None:
        self.ask_for_account()
        assert others == {}
        for name in self.let_in.keys() - {own.name}:
            self.moment()
            del self.let_in[name]
        self.moment()

    def ask_for_account(self) -> None:
        shown = load_account(self.layout.root)
        if not self.etcd or self.let_in.get(shown.name) != shown:
            raise AuthenticationFailed("etcdserver: authentication failed")

    async def halt(self, name: str) -> None:
        assert name == "etcd"
        self.etcd = False
        self.moment()

    def begin(self, name: str) -> None:
        assert name == "etcd"
        if not self.etcd:  # while it runs it goes by what it has read at its start
            self.etcd, self.trusted["etcd"] = True, self.authority
        self.moment()

    def reload(self, name: str) -> None:
        """Patroni looks at its certificates only when nothing else has changed."""
        assert name == "patroni"
        self.trusted["postgres"] = self.authority
        if self.configured == self.patroni:
            self.trusted["patroni"] = self.authority
        self.patroni = self.configured
        self.moment()

    def configure(self, *_: Any) -> None:
        """Write Patroni's configuration from the files."""
        self.moment()
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.configured = self.secrets, load_account(self.layout.root)
        self.moment()

    def tell(self, job: str, text: str | None) -> None:
        assert job == rotation.FILE_NAME
        self.notes = {job: text} if text else {}

    # --- what PostgreSQL, etcd and Patroni answer

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        yield self

    async def connect(self, known: Secrets) -> Any:
        if known.superuser.reveal() != self.database.superuser.reveal():
            raise psycopg.OperationalError("password authentication failed")
        if self.trusted["postgres"] != self.authority:
            raise psycopg.OperationalError("certificate verify failed")
        return self.session()

    async def change(self, _: Any, new: Secrets) -> None:
        if self.recovering:
            raise rotation_runner.RotationBlocked("PostgreSQL does not accept writes yet")
        self.moment()
        self.database = new
        self.moment()

    async def execute(self, statement: str, _: Any) -> None:
        assert statement == END_SESSIONS
        self.sessions = 0

    async def answers(self, *_: Any) -> bool:
        return self.etcd and self.trusted["etcd"] == self.authority

    async def ask(self, *_: Any) -> bytes | None:
        return b"200" if self.trusted["patroni"] == self.authority else None

    async def accepts(self, _: str, __: Any, password: Secret) -> bool:
        return self.patroni[0].patroni_rest.reveal() == password.reveal()

    # --- what is done to it

    async def renew(self) -> None:
        async with asyncio.timeout(60):
            if found := load(self.layout):
                await RotationRunner(self.view()).carry_out(found)

    def usable(self) -> bool:
        """Return whether the node knows the password, or what it is about to know."""
        pending = load(self.layout)
        known = [self.secrets, *([pending.secrets] if pending else [])]
        shown = load_account(self.layout.root)
        return self.let_in[shown.name] == shown and self.database.superuser.reveal() in {
            secrets.superuser.reveal() for secrets in known
        }


class Records(SealedStore):
    """The node's records, and who is let in to its store."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.records, Seals(RecordKeys(node.layout.root)))
        self.accounts = node


def without_the_old_key(pending: rotation.Rotation) -> rotation.Rotation:
    """Return what is in place at the end: the records are sealed by the new key alone."""
    kept = msgspec.structs.replace(pending.secrets, records_before=None)
    changed = {**pending.files, SECRETS: Secret(encode_secrets(kept).decode())}
    return msgspec.structs.replace(pending, files=changed)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return made(tmp_path / "a", monkeypatch)


def made(directory: Path, patch: pytest.MonkeyPatch) -> Node:
    directory.mkdir()
    found = Node(directory)
    patch.setattr(RotationRunner, "_connect", lambda _, known: found.connect(known))
    patch.setattr(rotation_runner, "_change_passwords", found.change)
    patch.setattr(rotation_runner, "is_healthy", found.answers)
    patch.setattr(rotation_runner, "ask", found.ask)
    patch.setattr(rotation_runner, "accepts_password", found.accepts)
    patch.setattr(rotation_runner, "write_patroni_config", found.configure)
    patch.setattr(rotation, "write_durably", found.mortal(WRITE))
    patch.setattr(rotation_runner, "finish", found.mortal(FINISH))
    return found


WRITE, FINISH = write_durably, rotation.finish


async def test_all_is_new_but_what_clients_trust(node: Node) -> None:
    """And no session goes on that somebody began by what was."""
    before, old = load_authorities(node.layout.root), node.secrets
    shown = (node.layout.root / API_CERTIFICATE).read_bytes()
    credentials = OwnCredentials(node.layout, IDENTITY)
    found = credentials.authority()
    await credentials.renew()
    assert credentials.pending()
    assert credentials.authority() == found
    await node.renew()
    after, new = load_authorities(node.layout.root), node.secrets
    assert not credentials.pending()
    assert credentials.authority() != found
    assert after.nodes.key != before.nodes.key
    assert after.service == before.service
    assert (node.layout.root / API_CERTIFICATE).read_bytes() == shown
    assert {old.superuser.reveal(), new.superuser.reveal()} == {OLD, new.superuser.reveal()}
    changed = {getattr(new, name).reveal() for name in ROTATED_SECRETS}
    assert len(changed) == len(ROTATED_SECRETS)
    assert OLD not in changed
    assert new.application is not None
    assert new.application.reveal() == OLD
    assert node.sessions == 0
    assert node.notes == {}


async def test_only_the_new_account_is_let_in_to_the_store(node: Node) -> None:
    """Whoever has copied the old one, or made himself another, is let in no more."""
    old = load_account(node.layout.root)
    await OwnCredentials(node.layout, IDENTITY).renew()
    assert load_account(node.layout.root) == old
    await node.renew()
    new = load_account(node.layout.root)
    assert new.name != old.name
    assert new.password.reveal() != old.password.reveal()
    assert node.let_in == {new.name: new}


async def test_what_the_old_key_has_sealed_is_sealed_anew(node: Node) -> None:
    """And whoever has copied the old key makes no record any more."""
    anna, thief = keys.user("anna"), keys.user("thief")
    await node.store().put(anna, b"anna")
    await node.store().put(keys.PATRONI_CONFIG, b'{"ttl":20}')
    copied = SealedStore(node.records, Seals(lambda: [node_key]))
    node_key = node.secrets.records
    await OwnCredentials(node.layout, IDENTITY).renew()
    await node.renew()
    assert node.secrets.records_before is None
    for key, value in ((anna, b"anna"), (keys.PATRONI_CONFIG, b'{"ttl":20}')):
        found = await node.store().get(key)
        assert found is not None
        assert found.value == value
        with pytest.raises(RecordForged):
            await copied.get(key)
    await copied.put(thief, b"thief")
    with pytest.raises(RecordForged):
        await node.store().get(thief)


async def test_what_is_new_is_kept_from_others(node: Node) -> None:
    """It holds keys and passwords; the passwords are not shown by what holds them."""
    await OwnCredentials(node.layout, IDENTITY).renew()
    assert rotation.rotation_path(node.layout).stat().st_mode & 0o777 == 0o600
    found = load(node.layout)
    assert found is not None
    assert found.secrets.superuser.reveal() not in repr(found)


async def test_asked_twice_it_is_one(node: Node) -> None:
    """A task that goes on after a crash asks again."""
    credentials = OwnCredentials(node.layout, IDENTITY)
    await credentials.renew()
    found = load(node.layout)
    await credentials.renew()
    assert load(node.layout) == found


async def test_it_waits_for_a_primary_and_says_so(node: Node) -> None:
    """Nothing changes before PostgreSQL has taken the passwords."""
    before = node.authority
    await OwnCredentials(node.layout, IDENTITY).renew()
    node.recovering = True
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            await node.renew()
    assert "does not accept writes yet" in node.notes[rotation.FILE_NAME]
    assert node.authority == before
    node.recovering = False
    await node.renew()
    assert node.notes == {}


async def test_patroni_goes_by_the_new_account_before_the_old_one_goes(node: Node) -> None:
    """Its configuration could not be written; the files were in place already at the next try."""
    await OwnCredentials(node.layout, IDENTITY).renew()
    old, node.full = node.patroni[1], True
    for _ in range(2):
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(60):
                await node.renew()
    assert old.name in node.let_in
    assert "No space left on device" in node.notes[rotation.FILE_NAME]
    node.full = False
    await node.renew()
    assert node.patroni[1].name != old.name
    assert node.let_in.keys() == {node.patroni[1].name}
    assert node.notes == {}


@pytest.mark.parametrize("twice", [False, True])
async def test_dead_at_any_moment_it_is_gone_on_with(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    """The node always knows the password that PostgreSQL has; at the end all is new."""
    await OwnCredentials(node.layout, IDENTITY).renew()
    await node.renew()
    moments = node.moments
    assert moments > 20
    for dies_at in range(3, moments + 1):
        again = made(tmp_path / f"{dies_at}-{twice}", monkeypatch)
        await OwnCredentials(again.layout, IDENTITY).renew()
        again.dies_at = dies_at
        for _ in range(1 + twice):
            with suppress(Died):
                await again.renew()
            assert again.usable()
            again.dies_at += 5
            with suppress(Died):
                again.start()
            assert again.usable()
        again.dies_at = 0
        again.start()
        pending = load(again.layout)
        await again.renew()
        assert again.database.superuser.reveal() == again.secrets.superuser.reveal() != OLD
        assert again.let_in == {
            load_account(again.layout.root).name: load_account(again.layout.root)
        }
        assert pending is None or in_place(again.layout, without_the_old_key(pending))
        assert set(again.trusted.values()) == {again.authority}
        assert again.patroni[1].name in again.let_in
        assert load(again.layout) is None


async def test_a_record_that_is_written_meanwhile_is_sealed_anew_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who has read the old key yet: when that key counts no more, nothing is lost."""
    anna = keys.user("anna")
    await node.store().put(anna, b"anna")
    late = SealedStore(node.records, Seals(lambda: [old]))
    old, txn = node.secrets.records, node.records.txn
    raced: list[bool] = []

    async def racing(compares: Any, success: Any, failure: Any = ()) -> Any:
        seals = any(getattr(action, "key", "") == anna for action in success)
        if seals and load(node.layout) and not raced:
            raced.append(True)
            await late.put(anna, b"newer")
        return await txn(compares, success, failure)

    await OwnCredentials(node.layout, IDENTITY).renew()
    monkeypatch.setattr(node.records, "txn", racing)
    await node.renew()
    assert raced
    assert node.secrets.records_before is None
    found = await node.store().get(anna)
    assert found is not None
    assert found.value == b"newer"
