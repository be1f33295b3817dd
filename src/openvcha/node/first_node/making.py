"""Making a first node on this machine, once its examination has found nothing against it."""

import socket
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.secret import Secret
from openvcha.node.first_node.adoption.programs import Programs
from openvcha.node.first_node.adoption.roles import take_roles
from openvcha.node.first_node.adoption.take_over import bring, take_settings
from openvcha.node.first_node.checks import Account, Examination
from openvcha.node.first_node.creation import Adopted, Begun, complete, prepare_directory
from openvcha.node.first_node.files import first_files, new_member, new_secrets
from openvcha.node.first_node.identity import first_identity
from openvcha.node.identity import IDENTITY, Secrets
from openvcha.node.layout import FIRST_ADMINISTRATOR, Layout
from openvcha.node.postgres.own_names import APPLICATION_USER
from openvcha.node.settings.table import Values

PASSWORDS: Final = "initial-passwords.json"


@dataclass(frozen=True)
class Request:
    """What is to be made. ``administrator`` is the record of the first user of the API.

    ``passwords`` are the generated ones, by user; the file of them gets that of the role `app` too.
    """

    values: Values
    account: Account
    administrator: bytes
    passwords: dict[str, Secret]
    application: Secret


@dataclass(frozen=True)
class Made:
    """The node that was made; ``superusers`` are those of adopted data, without the cluster's."""

    directory: Path
    superusers: tuple[str, ...] = ()


def make_first_node(
    request: Request,
    found: Examination,
    *,
    hand_over: Callable[[Path], None] = lambda _: None,
    acting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Made:
    """Make the node in its directory, which exists; continue after a crash.

    ``hand_over`` gives the directory to the node's account; what follows, and touches files that
    were not ours, is done ``acting`` as it. Raises ProgramFailed, NoDataDirectory, OSError.
    """
    directory = Path(str(request.values["node.directory"]))
    own = new_secrets(None if found.data else request.application)
    files = _files(request, own, adopts=found.data is not None)
    # An earlier run may have generated others, which count no longer.
    (directory / PASSWORDS).unlink(missing_ok=True)
    prepare_directory(directory, files, _begun(request.values, found))
    hand_over(directory)
    with acting():
        superusers = _adopt(request, found, own) if found.data else []
        complete(directory, files[IDENTITY])
    return Made(directory, tuple(superusers))


def _files(request: Request, own: Secrets, *, adopts: bool) -> dict[str, bytes]:
    identity = first_identity(
        request.values,
        cluster_id=str(uuid.uuid4()),
        member=new_member(str(request.values["node.name"])),
    )
    files = first_files(identity, own, socket.gethostname())
    shown = {name: password.reveal() for name, password in request.passwords.items()}
    if not adopts:
        shown[APPLICATION_USER] = request.application.reveal()
    if shown:
        encoded = msgspec.json.encode(shown)
        files = {PASSWORDS: msgspec.json.format(encoded, indent=2) + b"\n", **files}
    return {FIRST_ADMINISTRATOR: request.administrator, **files}


def _begun(values: Values, found: Examination) -> Begun:
    if found.data is None:
        return Begun()
    if found.begun and found.begun.adopted:
        return found.begun
    return Begun(adopted=Adopted(source=str(values["postgresql.adopt"]), system=found.data.system))


def _adopt(request: Request, found: Examination, own: Secrets) -> list[str]:
    """Bring the data, make their settings fit, take the cluster's roles; return superusers."""
    layout, values = Layout(Path(str(request.values["node.directory"]))), request.values
    if found.postgres is None:
        raise ValueError("there is no PostgreSQL for the data")
    copy = values["postgresql.adopt_by"] == "copy"
    bring(Path(str(values["postgresql.adopt"])), layout, copy=copy)
    take_settings(layout, str(values["postgresql.settings_file"]))
    programs = Programs(found.postgres.bin_dir, request.account.prefix)
    return take_roles(layout.pgdata, own, programs)
