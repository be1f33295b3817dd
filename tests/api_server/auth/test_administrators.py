"""What the operations learn of a user: whether it is an Administrator with the same password."""

from contextlib import nullcontext

from tests.support.edge import cheap_passwords

from openvcha.api.operations import by_id
from openvcha.api.secret import Secret
from openvcha.api_server.auth.administrators import administrator_generation
from openvcha.api_server.auth.credentials import Authenticator, Credentials
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.store.memory import MemoryStore

FIRST, SECOND = Secret("correct horse"), Secret("battery staple")


async def test_every_change_that_ends_a_users_privileges_shows() -> None:
    """A removed user who is added again, even with the same password, is another one."""
    store = MemoryStore()
    users = Users(store, passwords=cheap_passwords())
    await users.add("root", FIRST, UserRole.ADMINISTRATOR)
    assert await administrator_generation(store, "anna") is None
    seen = [(await users.add("anna", FIRST, UserRole.ADMINISTRATOR)).generation]
    assert await administrator_generation(store, "ANNA") == seen[0]
    await users.set_role("anna", UserRole.READ_ONLY)
    assert await administrator_generation(store, "anna") is None
    await users.set_role("anna", UserRole.ADMINISTRATOR)
    assert await administrator_generation(store, "anna") == seen[0]
    await users.passwd("anna", SECOND)
    seen.append(await administrator_generation(store, "anna") or "")
    await users.remove("anna")
    assert await administrator_generation(store, "anna") is None
    seen.append((await users.add("anna", FIRST, UserRole.ADMINISTRATOR)).generation)
    assert await administrator_generation(store, "anna") == seen[2]
    assert len({*seen, ""}) == 4


async def test_a_caller_has_the_generation_of_the_password_that_admitted_it() -> None:
    """What it issues counts for that password, even if another one is set during the call."""
    store = MemoryStore()
    users = Users(store, passwords=cheap_passwords())
    sessions = Sessions(store, users)
    user = await users.add("root", FIRST, UserRole.ADMINISTRATOR)
    authenticator = Authenticator(users, sessions)
    operation = by_id("org.openvcha.joining.issue")
    by_session = Credentials(token=await sessions.create(user))
    for given in (by_session, Credentials(user="root", password=FIRST)):
        principal = await authenticator.authenticate(operation, given, "127.0.0.1", nullcontext())
        assert principal.caller.generation == user.generation
