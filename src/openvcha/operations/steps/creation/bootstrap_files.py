"""The files that a new node gets when it joins: its identity and its secrets, but never its key."""

import asyncio
import socket
from functools import partial
from pathlib import Path

import msgspec

from openvcha.api.messages import message
from openvcha.cluster import membership
from openvcha.cluster.config import NodeKind, address_text
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.node.etcd.account import load_account, new_account
from openvcha.node.identity import Identity, load_secrets
from openvcha.node.layout import API_CERTIFICATE, API_KEY, Layout
from openvcha.node.local_records.sealed_records import roll_file
from openvcha.node.public_interface import PublicInterface, helper_socket
from openvcha.node.security.certificates import api_certificate
from openvcha.node.security.issuing import joining_files, load_authorities, load_pair
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import NewNode
from openvcha.operations.steps.votes.required_votes import initial_required_votes
from openvcha.store.account import Account
from openvcha.tasks.steps import TemporaryFailure


async def joining_files_of(
    services: Services, node: NewNode, public_key: bytes
) -> dict[str, bytes]:
    """Return the files (relative path: content) of a node with this public key (DER).

    Raises TemporaryFailure during a rotation, ValueError if the node has no VM yet.
    """
    _require_settled(services)
    identity = await _identity(services, node)
    account = await _account(services, identity)
    own = services.identity
    made = await asyncio.to_thread(_files, services.directory, own, identity, public_key, account)
    return made | await initial_required_votes(services)


def _require_settled(services: Services) -> None:
    """Raise TemporaryFailure during a rotation: it would invalidate new files at once."""
    if services.credentials.pending():
        raise TemporaryFailure(message("credentials.pending"))


async def _identity(services: Services, node: NewNode) -> Identity:
    if node.vm is None:
        raise ValueError(f"node {node.member} has no VM yet")
    own = services.identity
    data = node.kind is NodeKind.DATA
    failover_ip = node.failover_ip
    return Identity(
        cluster_id=own.cluster_id,
        cluster_name=own.cluster_name,
        member=node.member,
        kind="data" if data else "witness",
        vm=node.vm,
        name=node.placement.name,
        ha_address=node.ha_address,
        public_address=address_text(failover_ip) if failover_ip else "",
        public=_public(own, node) if data else None,
        ports=own.ports,
        etcd_initial_cluster=await membership.initial_cluster(
            services.store, node.member, services.peer_url(node.ha_address)
        ),
        data_nodes=await _data_nodes(services, node),
        etcd_state="existing",
        copy_from_leader=data,
        infrastructure=own.infrastructure,
        sessions=own.sessions,
        store=own.store,
        timers=own.timers,
        accepts_old_etcd=own.accepts_old_etcd,
        api=own.api,
    )


def _public(own: Identity, node: NewNode) -> PublicInterface | None:
    """Return where a data node holds its public address: on its own host's interface, if known."""
    if own.public is None or node.failover_ip is None or not node.public_interface:
        return own.public
    return msgspec.structs.replace(
        own.public,
        interface=node.public_interface,
        helper=helper_socket(address_text(node.failover_ip)),
    )


async def _data_nodes(services: Services, node: NewNode) -> dict[str, str]:
    """Return the voting data nodes as configured: what members announce is not trusted."""
    config = await services.observer.config()
    voters = {member.name for member in await services.store.members() if not member.learner}
    return {
        one.member: one.ha_address
        for one in config.of_kind(NodeKind.DATA)
        if one.member in voters - {node.member}
    }


async def _account(services: Services, identity: Identity) -> Account:
    """Return the store account of the new node; create it if the node is a witness.

    A repeated call sets another password; the last one counts.
    """
    if identity.holds_data:
        return await asyncio.to_thread(load_account, services.directory)
    account = new_account(identity.member)
    await services.store.accounts.grant(account, witness_permissions(identity.member))
    return account


def _files(
    directory: Path,
    own: Identity,
    identity: Identity,
    public_key: bytes,
    account: Account,
) -> dict[str, bytes]:
    make = partial(joining_files, public_key=public_key)
    authorities = load_authorities(directory)
    if not identity.holds_data:
        return make(identity, authorities, account=account)
    api = load_pair(directory, API_CERTIFICATE, API_KEY)
    if identity.public_address != own.public_address:
        # A passive that serves at another address after a failover needs a certificate for it.
        api = api_certificate(authorities.service, identity.public_address, socket.gethostname())
    # No node needs the application's password after the first start.
    secrets = msgspec.structs.replace(load_secrets(directory), application=None)
    made = make(identity, authorities, secrets=secrets, api=api, account=account)
    # Without the roll, a new node would accept an old state of the store as the first it sees.
    return made | roll_file(Layout(directory))
