"""What can go wrong between us and the store."""

from openvcha.store.interface import KeyValue


class StoreError(Exception):
    """The store answered with a refusal. ``code`` is its gRPC status code, -1 when ours."""

    def __init__(self, message: str, code: int = -1) -> None:
        super().__init__(message)
        self.code = code


class StoreUnavailable(StoreError):  # noqa: N818 - a state of the world, not a fault of ours
    """No endpoint answered with a quorum behind it before the deadline; the text says why."""


class StoreFull(StoreUnavailable):
    """The store takes no writes until it is given room; nothing was written. Reads go on."""


class OutcomeUnknown(StoreUnavailable):
    """A write was sent and its answer never came: it may have happened, or may yet happen."""


class ClusterUnhealthy(StoreUnavailable):
    """The store refused a membership change because it lacks (fresh) connections; try again."""


class NotLetIn(StoreUnavailable):
    """The store does not know who asks: no token, one that is void, or a wrong password.

    A member that was started anew, or is behind, may refuse who is let in by the others.
    """


class NotProtected(StoreError):  # noqa: N818 - see StoreUnavailable
    """The store lets in whoever has a certificate: it asks for no account."""


class AccountExists(StoreError):  # noqa: N818 - see StoreUnavailable
    """An account or a role of this name exists already."""


class AccountMissing(StoreError):  # noqa: N818 - see StoreUnavailable
    """No account or role has this name."""


class PermissionDenied(StoreError):  # noqa: N818 - see StoreUnavailable
    """The store knows who asks, and that this is not for him."""


class Compacted(StoreError):  # noqa: N818 - see StoreUnavailable
    """The revisions asked for are gone: list again, then watch from there.

    ``revision`` is the oldest one that is still known.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"revisions below {revision} have been compacted", 11)
        self.revision = revision


class LeaseNotFound(StoreError):  # noqa: N818 - see StoreUnavailable
    """The lease has expired, was revoked or never existed."""


class LearnerNotReady(StoreError):  # noqa: N818 - see StoreUnavailable
    """The learner has not caught up with the leader yet: promote it again a little later."""


class NotLearner(StoreError):  # noqa: N818 - see StoreUnavailable
    """The member to promote is a voter already."""


class MemberNotFound(StoreError):  # noqa: N818 - see StoreUnavailable
    """No member has this id (it may have been removed already)."""


class PeerExists(StoreError):  # noqa: N818 - see StoreUnavailable
    """A member with one of these peer URLs exists already."""


class RecordMissing(StoreError):  # noqa: N818 - see StoreUnavailable
    """The record to change is not there."""


class RecordUnreadable(StoreError):  # noqa: N818 - see StoreUnavailable
    """The stored value cannot be used: it is as if unknown. ``key`` is where it is."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class RecordInvalid(RecordUnreadable):
    """The stored value is not what its type says."""


class RecordForged(RecordUnreadable):
    """What stands under the key was not written there, as it is, by a node that holds data.

    ``raw`` is what stands there, where it is known.
    """

    def __init__(self, key: str, raw: KeyValue | None = None) -> None:
        super().__init__(key, "not written in this form by a data node of this cluster")
        self.raw = raw


class Fenced(StoreError):  # noqa: N818 - see StoreUnavailable
    """A guard of a write did not hold: somebody else has taken over."""
