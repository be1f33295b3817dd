"""Errors of the store."""

from openvcha.store.interface import KeyValue


class StoreError(Exception):
    """The store refused a request. ``code`` is its gRPC status code; -1 for an error of our own."""

    def __init__(self, message: str, code: int = -1) -> None:
        super().__init__(message)
        self.code = code


class StoreUnavailable(StoreError):  # noqa: N818 - a condition, not a defect
    """No endpoint responded with a quorum before the deadline; the text says why."""


class StoreFull(StoreUnavailable):
    """The store refuses writes until space is reclaimed; nothing was written. Reads work."""


class OutcomeUnknown(StoreUnavailable):
    """A write was sent but not acknowledged: it may have been applied, or may still be."""


class ClusterUnhealthy(StoreUnavailable):
    """The store refused a membership change because it lacks recent connections; try again."""


class AuthenticationFailed(StoreUnavailable):
    """The store rejected the token or the password, or there was no token.

    A member that restarted or lags behind may reject a token that the others accept.
    """


class AuthDisabled(StoreError):  # noqa: N818 - see StoreUnavailable
    """The store requires no account: any client with a certificate has all permissions."""


class AccountExists(StoreError):  # noqa: N818 - see StoreUnavailable
    """An account or a role of this name already exists."""


class AccountMissing(StoreError):  # noqa: N818 - see StoreUnavailable
    """No account or role has this name."""


class PermissionDenied(StoreError):  # noqa: N818 - see StoreUnavailable
    """The account lacks a permission."""


class Compacted(StoreError):  # noqa: N818 - see StoreUnavailable
    """The requested revisions are compacted: list again, then watch from there.

    ``revision`` is the oldest one that is still available.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"revisions below {revision} have been compacted", 11)
        self.revision = revision


class LeaseNotFound(StoreError):  # noqa: N818 - see StoreUnavailable
    """The lease has expired, was revoked or never existed."""


class LearnerNotReady(StoreError):  # noqa: N818 - see StoreUnavailable
    """The learner has not caught up with the leader yet: retry later."""


class NotLearner(StoreError):  # noqa: N818 - see StoreUnavailable
    """The member to promote is already a voter."""


class MemberNotFound(StoreError):  # noqa: N818 - see StoreUnavailable
    """No member has this id; it may have been removed."""


class PeerExists(StoreError):  # noqa: N818 - see StoreUnavailable
    """A member with one of these peer URLs already exists."""


class RecordMissing(StoreError):  # noqa: N818 - see StoreUnavailable
    """The record to change does not exist."""


class RecordUnreadable(StoreError):  # noqa: N818 - see StoreUnavailable
    """The stored value is unusable and counts as unknown. ``key`` is its key."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class RecordInvalid(RecordUnreadable):
    """The stored value does not match its type."""


class RecordForged(RecordUnreadable):
    """No data node wrote this value under this key: its seal is missing or wrong.

    ``raw`` is the key-value pair found, where it is known.
    """

    def __init__(self, key: str, raw: KeyValue | None = None) -> None:
        super().__init__(key, "not written in this form by a data node of this cluster")
        self.raw = raw


class Fenced(StoreError):  # noqa: N818 - see StoreUnavailable
    """A guard of a write did not hold: another process has taken over."""
