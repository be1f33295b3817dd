"""A fault or a warning of a cluster, as it is shown to an administrator."""

from dataclasses import dataclass

from openvcha.api.messages import message
from openvcha.api.structures import ErrorCondition


@dataclass(frozen=True)
class Finding:
    """A fault or a warning. ``key`` identifies it; numbers that change are not part of it."""

    key: str
    condition: ErrorCondition


def finding(
    name: str,
    *arguments: object,
    about: tuple[str, ...] | None = None,
    advice: tuple[str, ...] | None = None,
) -> Finding:
    """Return the finding of the message ``name``.

    ``about`` is its subject, by default the first argument. ``advice`` is the recommendation's
    message with its arguments, by default ``NAME.recommendation`` with the same subject.
    """
    subject = about if about is not None else tuple(str(part) for part in arguments[:1])
    recommendation = advice or (f"{name}.recommendation", *subject)
    return Finding(
        ":".join((name, *subject)),
        ErrorCondition(error=message(name, *arguments), recommendation=message(*recommendation)),
    )
