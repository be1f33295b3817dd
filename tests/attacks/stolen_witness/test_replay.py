"""Restoring the whole store to an older state, with all of etcd's counters, brings no user back.

The attacker controls the store's consensus, or has a copy of a member's files. Every seal in what
he restores is valid. Each attack is made twice: with seals alone it succeeds, which proves that the
test would detect it; where data nodes keep the roll it fails.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.edge import cheap_passwords
from tests.support.simulated.observations import ObservationBuilder as Cluster
from typer.testing import CliRunner

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api.structures import JoinRole, JoinSpec
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import Sessions, token_hash
from openvcha.api_server.auth.users import Users
from openvcha.cli.node import store as commands
from openvcha.cluster.findings.health import assess
from openvcha.events.audit import AuditLog
from openvcha.node.layout import Layout
from openvcha.node.local_records.sealed_records import KeptRecords, forget_kept, roll_file
from openvcha.operations.join_tokens import new_token, require_token, spent, token_record
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.memory import MemoryStore
from openvcha.store.sealing.rolled_store import RolledStore
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore

pytestmark = pytest.mark.looptime

FIRST, SECOND = Secret("correct horse"), Secret("battery staple")
CHEAP = cheap_passwords()
NOW = datetime(2026, 11, 26, tzinfo=UTC)
Whole = dict[str, KeyValue]


class Replayed(MemoryStore):
    """A store that a thief can restore to an earlier state, with every counter."""

    def whole(self) -> Whole:
        return dict(self._keys)

    def put_back(self, whole: Whole) -> None:
        self._keys = dict(whole)

    def put_one_back(self, whole: Whole, prefix: str) -> None:
        """Restore the keys with a prefix, and leave the rest unchanged."""
        kept = {key: kv for key, kv in self._keys.items() if not key.startswith(prefix)}
        self._keys = kept | {key: kv for key, kv in whole.items() if key.startswith(prefix)}


class ReplayedCluster:
    """A cluster's store, and the directories of its data nodes."""

    def __init__(self, folder: Path, kind: type[SealedStore] = RolledStore) -> None:
        self.raw = Replayed()
        self.folder = folder
        self.kind = kind
        self.known = [Secret("of the data nodes")]
        self.store = self.process("a")
        self.users = Users(self.store, passwords=CHEAP)

    def layout(self, node: str) -> Layout:
        (self.folder / node).mkdir(exist_ok=True)
        return Layout(self.folder / node)

    def process(self, node: str, *, keeps: bool = True) -> Any:
        """Start a program of a node: it knows what the node keeps on its disk."""
        kept = KeptRecords(self.layout(node), writes=keeps)
        return self.kind(self.raw, Seals(lambda: self.known), kept)

    @asynccontextmanager
    async def followed(self, node: str) -> AsyncIterator[None]:
        """Let a node that does not lead follow the roll for a while."""
        if self.kind is not RolledStore:
            yield
            return
        following = asyncio.create_task(self.process(node).follow_roll())
        await asyncio.sleep(0.1)
        yield
        await asyncio.sleep(0.1)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    async def enters(self, store: SealedStore, name: str, password: Secret = FIRST) -> bool:
        try:
            await Users(store, passwords=CHEAP).verify(name, password)
        except ApiError:
            return False
        return True


@pytest.fixture
def cluster(tmp_path: Path) -> ReplayedCluster:
    return ReplayedCluster(tmp_path)


Attack = Callable[
    [ReplayedCluster, Callable[[Whole], None]], Awaitable[Callable[[SealedStore], Any]]
]
"""Uses the store, puts it back by what it is given, and returns how to see whether it came off."""


async def removed_administrator(cluster: ReplayedCluster, put_back: Callable[[Whole], None]) -> Any:
    await cluster.users.add("thief", FIRST, UserRole.ADMINISTRATOR)
    whole = cluster.raw.whole()
    await cluster.users.remove("thief")
    put_back(whole)
    return lambda store: cluster.enters(store, "thief")


async def old_password(cluster: ReplayedCluster, put_back: Callable[[Whole], None]) -> Any:
    await cluster.users.add("bert", FIRST, UserRole.READ_ONLY)
    whole = cluster.raw.whole()
    await cluster.users.passwd("bert", SECOND)
    put_back(whole)
    return lambda store: cluster.enters(store, "bert", FIRST)


async def role_taken_away(cluster: ReplayedCluster, put_back: Callable[[Whole], None]) -> Any:
    await cluster.users.add("bert", FIRST, UserRole.ADMINISTRATOR)
    whole = cluster.raw.whole()
    await cluster.users.set_role("bert", UserRole.NO_ACCESS)
    put_back(whole)

    async def is_administrator(store: SealedStore) -> bool:
        found = await Users(store).find("bert")
        listed = {user.name: user.role for user in await Users(store).list()}
        several = await store.get_many([keys.user("bert")])
        seen = (found and found.role, listed.get("bert"), several[0] is not None)
        assert seen in {(None, None, False), (UserRole.ADMINISTRATOR, UserRole.ADMINISTRATOR, True)}
        return found is not None

    return is_administrator


async def used_token(cluster: ReplayedCluster, put_back: Callable[[Whole], None]) -> Any:
    token, record = new_token("127.1.1.9", "anna", "first", NOW)
    stored = token_record(cluster.store, JoinRole.PASSIVE)
    await stored.create(record)
    whole = cluster.raw.whole()
    await stored.update(lambda found: spent(found, found.digest, b"the first node's key"))
    put_back(whole)
    spec = JoinSpec(
        token=token,
        role=JoinRole.PASSIVE,
        name="thief",
        ha_address="127.1.1.9",
        certificate_request="",
    )

    async def counts_again(store: SealedStore) -> bool:
        found = await token_record(store, JoinRole.PASSIVE).read_valid()
        try:
            require_token(found.value if found else None, spec, NOW)
        except ApiError:
            return False
        assert found is not None
        return not found.value.spent_by

    return counts_again


ATTACKS: tuple[Attack, ...] = (removed_administrator, old_password, role_taken_away, used_token)


async def _made(
    cluster: ReplayedCluster, attack: Attack, *, whole: bool
) -> Callable[[SealedStore], Any]:
    """Make an attack: with the whole store, or with everything except the roll."""
    await cluster.users.add("anna", FIRST, UserRole.ADMINISTRATOR)

    def put_back(copied: Whole) -> None:
        if whole:
            cluster.raw.put_back(copied)
        else:
            for prefix in (keys.USERS, keys.JOINS):
                cluster.raw.put_one_back(copied, prefix)

    async with cluster.followed("b"):
        return await attack(cluster, put_back)


@pytest.mark.parametrize("whole", [True, False], ids=["the whole store", "all but the roll"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_an_old_state_brings_nobody_back(attack: Attack, whole: bool, tmp_path: Path) -> None:
    """Not in the program that changed it, nor after a restart, on either node, nor on a new one."""
    (tmp_path / "seals").mkdir()
    bare = ReplayedCluster(tmp_path / "seals", SealedStore)
    came_off = await _made(bare, attack, whole=whole)
    assert await came_off(bare.store)
    cluster = ReplayedCluster(tmp_path)
    came_off = await _made(cluster, attack, whole=whole)
    for name, content in roll_file(cluster.layout("a")).items():
        place = cluster.layout("new").root / name
        place.parent.mkdir()
        place.write_bytes(content)
    programs = [cluster.store, cluster.process("a", keeps=False)]
    programs += [cluster.process(node) for node in ("a", "b", "new")]
    for store in programs:
        assert not await came_off(store)
        # Users that did not change can still log in: a person has to be able to look at this.
        assert await cluster.enters(store, "anna")
        told = store.refused()
        assert (keys.ROLL in told) is whole
        assert [key for key in told if key != keys.ROLL] or attack is used_token or not whole


async def test_it_is_told_with_what_to_do(cluster: ReplayedCluster) -> None:
    """As its own warning, which names the command for an administrator who restored it himself."""
    await _made(cluster, removed_administrator, whole=True)
    await cluster.store.prefix(keys.USERS)
    observed = Cluster()
    observed.set(forged=cluster.store.refused())
    warnings = assess(observed.seen).warnings
    said = [each for each in warnings if "older" in each.error.default_message]
    assert len(said) == 1
    assert said[0].recommendation is not None
    assert "vcha node store accept" in said[0].recommendation.default_message
    assert any(keys.user("thief") in each.error.args for each in warnings)


async def test_a_person_may_accept_it(cluster: ReplayedCluster) -> None:
    """Then the restored state counts, on all nodes, and every earlier session ends."""
    anna = await cluster.users.add("anna", FIRST, UserRole.ADMINISTRATOR)
    await cluster.users.add("bert", FIRST, UserRole.READ_ONLY)
    sessions = Sessions(cluster.store, cluster.users)
    token = await sessions.create(anna)
    whole = cluster.raw.whole()
    await sessions.delete(token_hash(token.reveal()))
    await cluster.users.remove("bert")
    cluster.raw.put_back(whole)
    assert await cluster.store.differing() == (keys.user("bert"),)
    assert not await cluster.enters(cluster.store, "bert")
    async with cluster.followed("b"):
        assert await cluster.process("a", keeps=False).accept()
    for store in (cluster.store, cluster.process("a"), cluster.process("b")):
        store._refused.clear()
        assert await cluster.enters(store, "bert")
        assert await store.differing() == ()
        with pytest.raises(ApiError):
            await Sessions(store, Users(store, passwords=CHEAP)).resolve(token)
        await store.prefix(keys.SESSIONS)
        assert store.refused() == ()
    begun = await sessions.create(anna)
    assert (await sessions.resolve(begun)).user.name == "anna"


async def test_the_command_asks_and_is_audited(
    cluster: ReplayedCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It names the differences; without a confirmation nothing is changed."""
    await _made(cluster, removed_administrator, whole=True)

    async def with_store(_: Path, work: Any) -> Any:
        return await work(cluster.process("a", keeps=False))

    monkeypatch.setattr(commands, "_with_store", with_store)

    def accept(answer: str) -> Any:
        return CliRunner().invoke(commands.app, ["accept", str(tmp_path)], input=answer)

    refused = await asyncio.to_thread(accept, "n\n")
    assert refused.exit_code == 1
    assert keys.user("thief") in refused.output
    assert not await cluster.enters(cluster.store, "thief")
    assert (await asyncio.to_thread(accept, "y\n")).exit_code == 0
    assert await cluster.enters(cluster.store, "thief")
    records = await AuditLog(cluster.store).list()
    assert [(one.operation, one.result) for one in records] == [("store.accept", "OK")]


async def test_a_store_put_back_is_mended_by_the_next_change(cluster: ReplayedCluster) -> None:
    """A change is based on the valid state; restored records can be removed and created again."""
    await _made(cluster, removed_administrator, whole=True)
    await cluster.users.add("bert", FIRST, UserRole.READ_ONLY)
    cluster.store._refused.clear()
    assert not await cluster.enters(cluster.store, "thief")
    assert keys.ROLL not in cluster.store.refused()
    await cluster.users.add("thief", SECOND, UserRole.READ_ONLY)
    assert await cluster.enters(cluster.store, "thief", SECOND)
    assert not await cluster.enters(cluster.store, "thief", FIRST)


async def test_a_node_that_was_off_takes_what_is_newer(cluster: ReplayedCluster) -> None:
    """Also one that never received any update; none of it is a warning."""
    async with cluster.followed("b"):
        await cluster.users.add("anna", FIRST, UserRole.ADMINISTRATOR)
    for number in range(5):
        await cluster.users.add(f"user{number}", FIRST, UserRole.READ_ONLY)
    await cluster.users.remove("user4")
    late, never = cluster.process("b"), cluster.process("never")
    for store in (late, never):
        assert await cluster.enters(store, "user3")
        assert not await cluster.enters(store, "user4")
        assert store.refused() == ()


async def test_a_crash_before_the_node_has_written_it_is_no_harm(cluster: ReplayedCluster) -> None:
    """The kept roll is older than the store's then, never newer."""
    await cluster.users.add("anna", FIRST, UserRole.ADMINISTRATOR)
    await Users(cluster.process("a", keeps=False), passwords=CHEAP).add(
        "bert", FIRST, UserRole.READ_ONLY
    )
    again = cluster.process("a")
    assert await cluster.enters(again, "bert")
    assert again.refused() == ()


async def test_a_deleted_roll_is_put_back_and_opens_nothing(cluster: ReplayedCluster) -> None:
    """The active restores it; where no node has kept one, no user gets in."""
    await cluster.users.add("anna", FIRST, UserRole.ADMINISTRATOR)
    await cluster.raw.delete(keys.ROLL)
    assert await cluster.enters(cluster.store, "anna")
    assert keys.ROLL in cluster.store.refused()
    await cluster.store.verify_all()
    assert await cluster.enters(cluster.process("never"), "anna")
    await cluster.raw.delete(keys.ROLL)
    assert not await cluster.enters(cluster.process("nor this"), "anna")
    await cluster.raw.put(keys.ROLL, b'{"number":99,"records":{}}')
    assert await cluster.enters(cluster.store, "anna")


async def test_standing_alone_keeps_the_roll(cluster: ReplayedCluster) -> None:
    """The configuration starts over then; the users' rights do not."""
    await _made(cluster, removed_administrator, whole=True)
    forget_kept(cluster.layout("a"))
    assert not await cluster.enters(cluster.process("a"), "thief")


async def test_a_new_seal_brings_nothing_back(cluster: ReplayedCluster) -> None:
    """Rotation seals only the valid records again."""
    await _made(cluster, removed_administrator, whole=True)
    cluster.known = [Secret("another"), *cluster.known]
    for prefix in (*keys.SEALED, keys.PATRONI_CONFIG):
        assert await cluster.store.reseal(prefix)
    cluster.known = cluster.known[:1]
    assert await cluster.enters(cluster.store, "anna")
    assert not await cluster.enters(cluster.store, "thief")
    assert not await cluster.enters(cluster.process("b"), "thief")
