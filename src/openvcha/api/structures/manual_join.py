"""Structures for nodes that an administrator creates and joins. Our own, not the SDK's."""

from datetime import datetime
from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api.structures.ids import TaskId
from openvcha.api.types import Enumeration, Structure


class JoinRole(Enumeration, vapi="org.openvcha.joining.role"):
    """The role of the node that is to join."""

    PASSIVE = "PASSIVE"
    WITNESS = "WITNESS"


class JoinTokenSpec(Structure):
    """The role whose token is issued or revoked."""

    vapi: ClassVar[str] = "org.openvcha.joining.token_spec"

    role: JoinRole


class JoinToken(Structure):
    """A token for one node at one HA address; it is shown only once."""

    vapi: ClassVar[str] = "org.openvcha.joining.token_info"

    token: Secret
    role: JoinRole
    ha_address: str
    expires: datetime


class JoinTokenSummary(Structure):
    """A token that was issued, without the token itself.

    `valid`: its issuer still is an Administrator with the same password, and its task runs or, if
    none has begun, it has not expired. `used`: a node has presented it, and no other node can.
    `task`: the task of that node.
    """

    vapi: ClassVar[str] = "org.openvcha.joining.token_summary"

    role: JoinRole
    ha_address: str
    issuer: str
    expires: datetime
    used: bool
    valid: bool
    task: TaskId | None = None


class JoinSpec(Structure):
    """The node that joins; `certificate_request` (PEM) names its HA address and no other."""

    vapi: ClassVar[str] = "org.openvcha.joining.join_spec"

    token: Secret
    role: JoinRole
    name: str
    ha_address: str
    certificate_request: str


class JoinInfo(Structure):
    """The files that the node receives, by relative path: all but its own key."""

    vapi: ClassVar[str] = "org.openvcha.joining.join_info"

    member: str
    task: TaskId
    files: dict[str, Secret]


prepare(__name__)
