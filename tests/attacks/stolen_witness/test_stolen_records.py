"""A thief with the witness's files writes to the store: none of it counts, all of it is reported.

Each attack is made twice: on a store without seals it succeeds, which proves that the test would
detect it; on a data node's store it does not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.support.edge import cheap_passwords
from tests.support.simulated.observations import ObservationBuilder as Cluster

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import JoinRole, JoinSpec, TaskProgress, TaskStatus
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import SessionRecord, Sessions, token_hash
from openvcha.api_server.auth.users import User, Users
from openvcha.cluster.config import ClusterConfig, cluster_record
from openvcha.cluster.findings.health import assess
from openvcha.daemon.unreadable_records import find_forged, find_unreadable, set_aside
from openvcha.operations.join_tokens import new_token, require_token, token_record
from openvcha.store import keys
from openvcha.store.errors import RecordForged
from openvcha.store.interface import Action, Compare, KeyValue, Store, TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.store.records import encode
from openvcha.store.sealing.kept import GoodValue
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.runner import Runner
from openvcha.tasks.steps import Step

pytestmark = pytest.mark.looptime

PASSWORD, OLD = Secret("correct horse"), Secret("old password")
TOKEN = "ab" * 32
CHEAP = cheap_passwords()
NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Counting(MemoryStore):
    """A store that counts its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def get(self, key: str) -> KeyValue | None:
        self.asked += 1
        return await super().get(key)

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        self.asked += 1
        return await super().txn(compares, success, failure)


class Files:
    """The files that a data node keeps for itself."""

    def __init__(self) -> None:
        self.values: dict[str, GoodValue] = {}

    def keeps(self, key: str) -> bool:
        return key == keys.CLUSTER

    def load(self, key: str) -> GoodValue | None:
        return self.values.get(key)

    def save(self, key: str, good: GoodValue) -> None:
        self.values[key] = good


class AttackedStore:
    """A cluster's store, and what a thief can do to it: everything that etcd lets a member do."""

    def __init__(self, *, sealed: bool) -> None:
        self.raw = Counting()
        guarded = SealedStore(self.raw, Seals(lambda: [Secret("of the data nodes")]), Files())
        self.sealed = guarded
        self.store: Store = guarded if sealed else self.raw
        self.users = Users(self.store, passwords=CHEAP)
        self.sessions = Sessions(self.store, self.users)
        self.journal = Journal(self.store)

    async def anna(self, role: UserRole = UserRole.READ_ONLY) -> User:
        return await self.users.add("anna", PASSWORD, role)

    async def stored(self, key: str) -> bytes:
        found = await self.raw.get(key)
        assert found is not None
        return found.value

    async def altered(self, key: str, **changes: Any) -> None:
        """Change fields of a record, and leave its seal unchanged."""
        line, newline, value = (await self.stored(key)).rpartition(b"\n")
        fields = {**msgspec.json.decode(value), **changes}
        await self.raw.put(key, line + newline + msgspec.json.encode(fields))

    async def enters(self, name: str, password: Secret) -> bool:
        try:
            await self.users.verify(name, password)
        except ApiError:
            return False
        return True

    async def resolved(self, token: str) -> bool:
        try:
            await self.sessions.resolve(Secret(token))
        except ApiError:
            return False
        return True


Attack = Callable[[AttackedStore], Awaitable[bool]]
"""Makes an attack, and tells whether it came off."""


async def adds_an_administrator(attacked: AttackedStore) -> bool:
    known = await CHEAP.hash(PASSWORD.reveal())
    user = User(name="thief", role=UserRole.ADMINISTRATOR, password_hash=known, generation="g")
    await attacked.raw.put(keys.user("thief"), encode(user))
    return await attacked.enters("thief", PASSWORD)


async def renames_a_user(attacked: AttackedStore) -> bool:
    """Move a user's sealed record, whose password the thief knows, to the key of another."""
    await attacked.anna()
    await attacked.raw.put(keys.user("root"), await attacked.stored(keys.user("anna")))
    return await attacked.enters("root", PASSWORD)


async def puts_a_deleted_user_back(attacked: AttackedStore) -> bool:
    await attacked.anna(UserRole.ADMINISTRATOR)
    await attacked.users.add("bert", PASSWORD, UserRole.ADMINISTRATOR)
    copied = await attacked.stored(keys.user("anna"))
    await attacked.users.remove("anna")
    for _ in range(3):  # so that the count of writes is right too
        await attacked.raw.put(keys.user("anna"), copied)
    await attacked.raw.delete(keys.user("anna"))
    await attacked.raw.put(keys.user("anna"), b"")
    await attacked.raw.put(keys.user("anna"), copied)
    return await attacked.enters("anna", PASSWORD)


async def puts_an_old_password_back(attacked: AttackedStore) -> bool:
    await attacked.users.add("anna", OLD, UserRole.ADMINISTRATOR)
    copied = await attacked.stored(keys.user("anna"))
    await attacked.users.passwd("anna", PASSWORD)
    await attacked.raw.put(keys.user("anna"), copied)
    return await attacked.enters("anna", OLD)


async def raises_a_reader(attacked: AttackedStore) -> bool:
    await attacked.anna()
    await attacked.altered(keys.user("anna"), role="Administrator")
    found = await attacked.users.find("anna")
    return found is not None and found.role is UserRole.ADMINISTRATOR


async def makes_a_session_up(attacked: AttackedStore) -> bool:
    user, now = await attacked.anna(), datetime.now(UTC)
    record = SessionRecord(
        user=user.name, generation=user.generation, created=now, last_accessed=now
    )
    await attacked.raw.put(keys.session(token_hash(TOKEN).hex()), encode(record))
    return await attacked.resolved(TOKEN)


async def puts_an_ended_session_back(attacked: AttackedStore) -> bool:
    token = (await attacked.sessions.create(await attacked.anna())).reveal()
    key = keys.session(token_hash(token).hex())
    copied = await attacked.stored(key)
    await attacked.sessions.delete(token_hash(token))
    await attacked.raw.put(key, copied)
    return await attacked.resolved(token)


async def prolongs_a_session(attacked: AttackedStore) -> bool:
    token = (await attacked.sessions.create(await attacked.anna())).reveal()
    key = keys.session(token_hash(token).hex())
    later = datetime.now(UTC) + timedelta(days=300)
    await attacked.altered(key, created=later, last_accessed=later)
    return await attacked.resolved(token)


async def makes_a_join_token_up(attacked: AttackedStore) -> bool:
    token, record = new_token("127.1.1.9", "anna", "first", NOW)
    stored = token_record(attacked.store, JoinRole.PASSIVE)
    await attacked.raw.put(stored.key, encode(record))
    spec = JoinSpec(
        token=token,
        role=JoinRole.PASSIVE,
        name="thief",
        ha_address="127.1.1.9",
        certificate_request="",
    )
    found = await stored.read_valid()
    try:
        require_token(found.value if found else None, spec, NOW)
    except ApiError:
        return False
    return True


async def changes_the_configuration(attacked: AttackedStore) -> bool:
    await cluster_record(attacked.store).create(Cluster().seen.config)
    await attacked.store.get(keys.CLUSTER)
    await attacked.altered(keys.CLUSTER, name="of the thief")
    found = await cluster_record(attacked.store).get()
    return found is None or found.name == "of the thief"


async def deletes_the_configuration(attacked: AttackedStore) -> bool:
    """Delete it, so that the active would write a first configuration over a cluster of three."""
    await cluster_record(attacked.store).create(Cluster().seen.config)
    await attacked.raw.delete(keys.CLUSTER)
    return await cluster_record(attacked.store).get() is None


class Ran(Step):
    """A step that records that it ran."""

    name = "thieves"

    def __init__(self) -> None:
        self.ran = 0

    async def done(self, ctx: Any) -> bool:
        del ctx
        return False

    async def act(self, ctx: Any) -> None:
        del ctx
        self.ran += 1

    async def undo(self, ctx: Any) -> None:
        """Do nothing: the step only counts."""


def task(name: str, **changes: Any) -> TaskRecord:
    said = message("passive.redeploy")
    record = TaskRecord(
        id=name,
        description=said,
        service="com.vmware.vcenter.vcha.cluster.passive",
        operation="redeploy$task",
        created=NOW,
        status=TaskStatus.PENDING,
        progress=TaskProgress(total=100, completed=0, message=said),
        cancelable=True,
        may_cancel=True,
        user="anna",
    )
    return msgspec.structs.replace(record, **changes)


async def carried_out(attacked: AttackedStore) -> int:
    """Let the runner work for a while, and return how many tasks it ran."""
    step = Ran()
    runner = Runner(attacked.store, attacked.journal, {task("").operation_id: lambda _: [step]})
    working = asyncio.create_task(runner.run())
    await asyncio.sleep(30)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return step.ran


async def makes_a_task_up(attacked: AttackedStore) -> bool:
    await attacked.raw.put(keys.task("t"), encode(task("t")))
    await attacked.raw.put(keys.OPERATION, b"t")
    return await carried_out(attacked) > 0


async def repeats_a_task(attacked: AttackedStore) -> bool:
    """Restore the record of a task that has ended to its initial state."""
    made = task("")
    begun = await attacked.journal.create(
        service=made.service, operation=made.operation, description=made.description, user="anna"
    )
    copied = await attacked.stored(keys.task(begun.id))
    assert await carried_out(attacked) == 1
    await attacked.raw.put(keys.task(begun.id), copied)
    again = await carried_out(attacked)
    await attacked.raw.delete(keys.task(begun.id))
    await attacked.raw.put(keys.task(begun.id), b"")
    await attacked.raw.put(keys.task(begun.id), copied)
    return again + await carried_out(attacked) > 0


ATTACKS: tuple[Attack, ...] = (
    adds_an_administrator,
    renames_a_user,
    puts_a_deleted_user_back,
    puts_an_old_password_back,
    raises_a_reader,
    makes_a_session_up,
    puts_an_ended_session_back,
    prolongs_a_session,
    makes_a_join_token_up,
    changes_the_configuration,
    deletes_the_configuration,
    makes_a_task_up,
    repeats_a_task,
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_a_thief(attack: Attack) -> None:
    """Without seals he succeeds, with them he does not, and it is reported."""
    assert await attack(AttackedStore(sealed=False))
    attacked = AttackedStore(sealed=True)
    assert not await attack(attacked)
    await attacked.sealed.verify_all()
    refused = attacked.sealed.refused()
    assert len(refused) == 1
    cluster = Cluster()
    cluster.set(forged=refused)
    found = assess(cluster.seen)
    assert found.state is assess(Cluster().seen).state
    assert any(refused[0] in each.error.args for each in found.warnings)


async def test_one_forged_user_is_in_nobodys_way() -> None:
    """The others can log in and are listed, and the forged one can be removed or created again."""
    attacked = AttackedStore(sealed=True)
    await adds_an_administrator(attacked)
    await attacked.anna()
    assert await attacked.enters("anna", PASSWORD)
    assert [user.name for user in await attacked.users.list()] == ["anna"]
    with pytest.raises(ApiError):
        await attacked.users.set_role("thief", UserRole.READ_ONLY)
    await attacked.users.remove("thief")
    assert await attacked.raw.get(keys.user("thief")) is None
    await adds_an_administrator(attacked)
    await attacked.users.add("thief", OLD, UserRole.READ_ONLY)
    assert not await attacked.enters("thief", PASSWORD)


async def test_a_deletion_opens_nothing() -> None:
    """Deletion cannot be prevented, but without users nobody gets in, by password or session."""
    attacked = AttackedStore(sealed=True)
    token = (await attacked.sessions.create(await attacked.anna(UserRole.ADMINISTRATOR))).reveal()
    await attacked.raw.delete_prefix(keys.USERS)
    assert not await attacked.enters("anna", PASSWORD)
    assert not await attacked.enters("", Secret(""))
    assert not await attacked.resolved(token)
    await attacked.raw.delete_prefix(keys.SESSIONS)
    assert not await attacked.resolved(token)


async def test_a_forged_hold_keeps_nobody_from_an_operation() -> None:
    """One of no task, of an ended one, or of a forged one; a running task still holds it."""
    attacked = AttackedStore(sealed=True)
    made = task("")

    async def create() -> TaskRecord:
        return await attacked.journal.create(
            service=made.service,
            operation=made.operation,
            description=made.description,
            user="anna",
        )

    await attacked.raw.put(keys.task("forged"), encode(task("forged")))
    for held in (b"nothing", b"forged", b"\xff\xfe", b"x" * 100_000):
        await attacked.raw.put(keys.OPERATION, held)
        assert await attacked.journal.running() is None
        await create()
        with pytest.raises(ApiError, match="is running") as busy:
            await create()
        assert busy.value.error_type is ErrorType.RESOURCE_BUSY
        assert await carried_out(attacked) == 1
    over = (await create()).id
    assert await carried_out(attacked) == 1
    await attacked.raw.put(keys.OPERATION, over.encode())
    await create()


@pytest.mark.parametrize("instead", [None, b"nothing", b"ended"])
async def test_a_running_task_holds_the_operation_though_its_hold_is_gone(
    instead: bytes | None,
) -> None:
    """Deleted, or overwritten with the id of no task or of one that has ended; no votes stay."""
    attacked = AttackedStore(sealed=True)
    made = task("")

    async def create() -> TaskRecord:
        return await attacked.journal.create(
            service=made.service,
            operation=made.operation,
            description=made.description,
            user="anna",
        )

    await attacked.store.put(keys.task("ended"), encode(task("ended", status=TaskStatus.FAILED)))
    running = await create()
    await attacked.store.put(keys.REQUIRED_VOTES, b"{}")
    await attacked.raw.delete(keys.OPERATION)
    if instead is not None:
        await attacked.raw.put(keys.OPERATION, instead)
    assert await attacked.journal.running() == running
    with pytest.raises(ApiError, match="is running") as busy:
        await create()
    assert busy.value.error_type is ErrorType.RESOURCE_BUSY
    assert busy.value.messages[0].args[1] == running.id
    assert await carried_out(attacked) == 1
    assert await attacked.raw.get(keys.REQUIRED_VOTES) is None
    assert await attacked.journal.running() is None
    assert (await create()).id != running.id


async def test_a_forged_task_is_named_as_that() -> None:
    """A caller that asks for it is told so, and the list has the others."""
    attacked = AttackedStore(sealed=True)
    await attacked.raw.put(keys.task("t"), encode(task("t")))
    with pytest.raises(ApiError) as refused:
        await attacked.journal.get("t")
    assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE
    with pytest.raises(ApiError) as refused:
        await attacked.journal.request_cancel("t")
    assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE


async def test_what_is_kept_of_the_cluster_is_put_back() -> None:
    """The active restores it by itself; what it then reads is the former state."""
    attacked = AttackedStore(sealed=True)
    await cluster_record(attacked.store).create(Cluster().seen.config)
    await attacked.raw.put(keys.CLUSTER, b"{}")
    await attacked.sealed.verify_all()
    bare = SealedStore(attacked.raw, Seals(lambda: [Secret("of the data nodes")]))
    found = await cluster_record(bare).get()
    assert isinstance(found, ClusterConfig)
    assert found == Cluster().seen.config
    await attacked.raw.put(keys.CLUSTER, b"{}")
    with pytest.raises(RecordForged):
        await cluster_record(bare).get()


async def test_a_forged_record_is_listed_and_set_aside() -> None:
    """By `vcha node store`, like any other unreadable record."""
    attacked = AttackedStore(sealed=True)
    await adds_an_administrator(attacked)
    key = keys.user("thief")
    (found,) = await find_forged(attacked.sealed)
    assert found.key == key
    assert "data node" in found.reason
    assert await find_unreadable(attacked.store) == []
    place = await set_aside(attacked.store, key, by="anna", now=NOW)
    assert await attacked.raw.get(key) is None
    assert b"data node" in await attacked.stored(place)


async def test_a_login_costs_one_question_more_and_a_request_none() -> None:
    """What the seal of a new session needs is read together with its reservation."""
    costs: list[tuple[int, int, int]] = []
    for sealed in (False, True):
        attacked = AttackedStore(sealed=sealed)
        user = await attacked.anna()
        before = attacked.raw.asked
        token = (await attacked.sessions.create(user)).reveal()
        begun = attacked.raw.asked
        assert await attacked.resolved(token)
        asked = attacked.raw.asked
        await attacked.users.set_role("anna", UserRole.ADMINISTRATOR)
        costs.append((begun - before, asked - begun, attacked.raw.asked - asked))
    (login, request, change), (login_sealed, *others) = costs
    assert login_sealed == login + 1
    assert others == [request, change]
