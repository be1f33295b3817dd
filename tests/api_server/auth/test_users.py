"""Users: passwords, roles, and the delay after wrong passwords."""

import asyncio
import base64

import pytest
from argon2 import PasswordHasher, extract_parameters
from tests.support.edge import ADMINISTRATOR, PASSWORD, READER, Edge

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.operations import Privilege
from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.passwords import Passwords
from openvcha.api_server.auth.throttle import delay
from openvcha.api_server.auth.users import MAX_ATTEMPTS, User, Users
from openvcha.store import keys
from openvcha.store.interface import Compare

READ = "/api/vcenter/vcha/operations"
WRONG = Secret("wrong-password")


async def tried(edge: Edge, password: str, name: str = ADMINISTRATOR) -> int:
    """Return the status of a read with these credentials."""
    return int((await edge.client.get(READ, auth=(name, password))).status_code)


async def refusal(edge: Edge, name: str, password: Secret) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await edge.users.verify(name, password)
    return caught.value


async def test_a_user_is_kept_with_an_argon2id_hash(edge: Edge) -> None:
    """The password itself is not stored."""
    stored = await edge.store.get(keys.user(ADMINISTRATOR))
    assert stored is not None
    assert b"$argon2id$" in stored.value
    assert PASSWORD not in repr(stored)


async def test_the_roles_are_those_of_the_issue(edge: Edge) -> None:
    """Administrator, ReadOnly, NoAccess."""
    privileges = {user.name: user.privileges for user in await edge.users.list()}
    assert privileges == {
        ADMINISTRATOR: {Privilege.SYSTEM_READ, Privilege.GLOBAL_VCSERVER},
        READER: {Privilege.SYSTEM_READ},
        "nobody@vsphere.local": frozenset(),
    }
    assert [role.value for role in UserRole] == ["Administrator", "ReadOnly", "NoAccess"]


async def test_names_differ_by_more_than_case(edge: Edge) -> None:
    """The name is shown as it was added."""
    user = await edge.users.verify("Administrator@VSPHERE.local", Secret(PASSWORD))
    assert user.name == ADMINISTRATOR
    with pytest.raises(ApiError, match="ALREADY_EXISTS"):
        await edge.users.add("ADMINISTRATOR@vsphere.local", Secret(PASSWORD), UserRole.READ_ONLY)


@pytest.mark.parametrize("name", ["", "a:b", "a/b", " a", "a\n", "a" * 129])
async def test_a_name_that_could_not_be_used_is_refused(edge: Edge, name: str) -> None:
    """No colon (Basic), no control characters."""
    with pytest.raises(ApiError, match="INVALID_ARGUMENT"):
        await edge.users.add(name, Secret(PASSWORD), UserRole.READ_ONLY)


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
async def test_a_password_has_a_sensible_length(edge: Edge, password: str) -> None:
    """8 to 1024 characters."""
    with pytest.raises(ApiError, match="INVALID_ARGUMENT"):
        await edge.users.add("new", Secret(password), UserRole.READ_ONLY)
    with pytest.raises(ApiError, match="INVALID_ARGUMENT"):
        await edge.users.passwd(READER, Secret(password))


async def test_changing_a_user_that_is_not_there(edge: Edge) -> None:
    """NOT_FOUND for each change."""
    for change in (
        edge.users.remove("x"),
        edge.users.passwd("x", Secret(PASSWORD)),
        edge.users.set_role("x", UserRole.READ_ONLY),
    ):
        with pytest.raises(ApiError, match="NOT_FOUND"):
            await change


def test_the_delay_grows_from_the_fifth_wrong_password_on() -> None:
    """Four are free; then 5 s, 10 s, 20 s … up to five minutes."""
    assert [delay(count).total_seconds() for count in range(1, 13)] == [
        *(0, 0, 0, 0),
        *(5, 10, 20, 40, 80, 160, 300, 300),
    ]
    assert delay(10**6).total_seconds() == 300


@pytest.mark.parametrize("name", [ADMINISTRATOR, "no-such-user"])
async def test_five_wrong_passwords_delay_the_next_try(edge: Edge, name: str) -> None:
    """Even the right one has to wait; the error says how long, also for an unknown name."""
    for _ in range(5):
        error = await refusal(edge, name, WRONG)
        assert [each.id for each in error.messages] == ["vapi.security.authentication.invalid"]
    error = await refusal(edge, name, Secret(PASSWORD))
    assert error.messages[1].id == "com.vmware.vcenter.vcha.users.throttled"
    assert error.messages[1].args == ("5",)
    edge.clock.advance(seconds=5)
    if name == ADMINISTRATOR:
        assert (await edge.users.verify(name, Secret(PASSWORD))).name == name
        for _ in range(4):  # counted from zero again
            assert len((await refusal(edge, name, WRONG)).messages) == 1


async def test_each_further_wrong_password_delays_more(edge: Edge) -> None:
    """Attempts during a delay are not counted, those after it are."""
    for _ in range(5):
        await refusal(edge, ADMINISTRATOR, WRONG)
    for seconds in (5, 10, 20):
        edge.clock.advance(seconds=seconds - 1)
        assert (await refusal(edge, ADMINISTRATOR, WRONG)).messages[1].args == ("1",)
        edge.clock.advance(seconds=1)
        assert len((await refusal(edge, ADMINISTRATOR, WRONG)).messages) == 1


async def test_trying_all_at_once_gives_no_more_tries(edge: Edge) -> None:
    """Of as many simultaneous attempts as may wait, five are verified."""
    attempts = (refusal(edge, ADMINISTRATOR, WRONG) for _ in range(MAX_ATTEMPTS))
    errors = await asyncio.gather(*attempts)
    assert sum(len(error.messages) == 1 for error in errors) == 5


async def test_a_new_password_ends_the_delay(edge: Edge) -> None:
    """`vcha user passwd` unlocks a user."""
    for _ in range(5):
        await refusal(edge, ADMINISTRATOR, WRONG)
    await edge.users.passwd(ADMINISTRATOR, Secret("another-password"))
    await edge.users.verify(ADMINISTRATOR, Secret("another-password"))


class Counting(Passwords):
    """Counts verifications, of known and of unknown users."""

    def __init__(self) -> None:
        super().__init__(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.tried: list[str | None] = []

    async def verify(self, known: str | None, password: str, *, source: str | None = None) -> bool:
        self.tried.append(known)
        return await super().verify(known, password, source=source)


async def test_basic_on_each_request_is_verified_once_a_minute(edge: Edge) -> None:
    """Valid credentials are cached for a minute, invalid ones never."""
    counting = edge.users._passwords = Counting()
    for _ in range(10):
        assert await tried(edge, PASSWORD) == 200
    assert len(counting.tried) == 1
    edge.clock.advance(seconds=61)
    assert await tried(edge, PASSWORD) == 200
    assert len(counting.tried) == 2
    for _ in range(2):
        assert await tried(edge, "wrong-password") == 401
    assert len(counting.tried) == 4


async def test_remembered_credentials_die_with_the_user(edge: Edge) -> None:
    """Removing a user takes effect at once, whatever is cached."""
    await edge.users.add("another", Secret(PASSWORD), UserRole.ADMINISTRATOR)
    assert await tried(edge, PASSWORD) == 200
    await edge.users.remove(ADMINISTRATOR)
    assert await tried(edge, PASSWORD) == 401


async def test_an_unknown_user_costs_a_whole_verification() -> None:
    """With the same parameters, and no password is right for it."""
    hasher = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    passwords = Passwords(hasher)
    mine, nobodys = (
        extract_parameters(hasher.hash("x")),
        extract_parameters(passwords._dummy_hashed),
    )
    assert mine == nobodys
    assert not await passwords.verify(None, "x")


async def test_latin_1_credentials_of_old_clients(edge: Edge) -> None:
    """Basic used to be Latin-1; such a password is accepted."""
    text = base64.b64encode(f"{ADMINISTRATOR}:{PASSWORD}".encode("latin-1")).decode()
    response = await edge.client.get(READ, headers={"authorization": f"bAsIc {text}"})
    assert response.status_code == 200


def test_a_user_says_who_it_is() -> None:
    """And nothing of the password."""
    user = User(name="a", role=UserRole.READ_ONLY, password_hash="$argon2id$", generation="g")
    assert repr(user) == "User(name='a', role=ReadOnly)"


@pytest.mark.parametrize(
    "name",
    [
        "VSPHERE.LOCAL\\administrator",
        "vsphere.local\\Administrator",
        "ADMINISTRATOR@VSPHERE.LOCAL",
    ],
)
async def test_a_domain_may_stand_before_the_name(edge: Edge, name: str) -> None:
    """As vCenter accepts it; the user is the same everywhere."""
    assert await tried(edge, PASSWORD, name) == 200
    assert (await edge.users.verify(name, Secret(PASSWORD))).name == ADMINISTRATOR


async def test_a_name_with_a_domain_is_kept_in_one_form(edge: Edge) -> None:
    """Otherwise a user could be added twice, or get more attempts at its password."""
    with pytest.raises(ApiError, match="ALREADY_EXISTS"):
        await edge.users.add("vsphere.local\\administrator", Secret(PASSWORD), UserRole.READ_ONLY)
    added = await edge.users.add("CORP\\J\u00f6rg", Secret(PASSWORD), UserRole.READ_ONLY)
    assert added.name == "J\u00f6rg@CORP"
    assert (await edge.users.verify("corp\\jo\u0308rg", Secret(PASSWORD))).name == added.name
    for number in range(6):
        name = ADMINISTRATOR if number % 2 else "VSPHERE.LOCAL\\administrator"
        await refusal(edge, name, WRONG)
    error = await refusal(edge, ADMINISTRATOR, WRONG)
    assert error.messages[1].id.endswith("users.throttled")


async def test_the_last_administrator_stays(edge: Edge) -> None:
    """It cannot be removed or demoted; the suggested command works."""
    for change in (
        edge.users.remove(ADMINISTRATOR),
        edge.users.set_role(ADMINISTRATOR, UserRole.READ_ONLY),
        edge.users.set_role(ADMINISTRATOR, UserRole.NO_ACCESS),
    ):
        with pytest.raises(ApiError, match="vcha user add NAME --role Administrator") as caught:
            await change
        assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    await edge.users.set_role(ADMINISTRATOR, UserRole.ADMINISTRATOR)
    assert await tried(edge, PASSWORD) == 200
    await edge.users.add("another", Secret(PASSWORD), UserRole.ADMINISTRATOR)
    await edge.users.remove(ADMINISTRATOR)
    assert await tried(edge, PASSWORD, "another") == 200


@pytest.mark.parametrize("removes", [(True, True), (True, False), (False, False)])
async def test_two_administrators_do_not_end_each_other(
    edge: Edge, removes: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simultaneously: each request saw the other administrator before either is gone."""
    await edge.users.add("another", Secret(PASSWORD), UserRole.ADMINISTRATOR)
    both, plain = asyncio.Barrier(2), Users._guards
    waited = set()

    async def seen(users: Users, name: str) -> tuple[Compare, ...]:
        guards = await plain(users, name)
        if name not in waited:
            waited.add(name)
            await both.wait()
        return guards

    monkeypatch.setattr(Users, "_guards", seen)
    done = await asyncio.gather(
        *(
            edge.users.remove(name) if remove else edge.users.set_role(name, UserRole.NO_ACCESS)
            for name, remove in zip((ADMINISTRATOR, "another"), removes, strict=True)
        ),
        return_exceptions=True,
    )
    assert [type(each) for each in done].count(ApiError) == 1, done
    left = [user for user in await edge.users.list() if user.role is UserRole.ADMINISTRATOR]
    assert len(left) == 1
