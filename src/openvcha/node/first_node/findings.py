"""The findings of an examination before anything is changed."""

import enum

import msgspec

from openvcha.api.prepared import prepare


class Verdict(enum.StrEnum):
    """What a finding means: nothing is wrong; a person should know it; nothing is done."""

    OK = "OK"
    NOTE = "NOTE"
    REFUSED = "REFUSED"


class Finding(msgspec.Struct, frozen=True):
    """One finding: its subject, verdict and explanation; a refusal says what to do."""

    subject: str
    verdict: Verdict
    text: str

    @classmethod
    def ok(cls, subject: str, text: str) -> "Finding":
        """Return that nothing is wrong."""
        return cls(subject, Verdict.OK, text)

    @classmethod
    def note(cls, subject: str, text: str) -> "Finding":
        """Return what a person should know."""
        return cls(subject, Verdict.NOTE, text)

    @classmethod
    def refused(cls, subject: str, text: str) -> "Finding":
        """Return why nothing is done."""
        return cls(subject, Verdict.REFUSED, text)


prepare(__name__)
