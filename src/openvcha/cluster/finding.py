"""Something that is wrong with a cluster, as a person is told it."""

from dataclasses import dataclass

from openvcha.api.messages import message
from openvcha.api.structures import ErrorCondition


@dataclass(frozen=True)
class Finding:
    """``key`` stays the same while the same thing is wrong, although its numbers change."""

    key: str
    condition: ErrorCondition


def finding(
    name: str,
    *arguments: object,
    about: tuple[str, ...] | None = None,
    advice: tuple[str, ...] | None = None,
) -> Finding:
    """Make a finding of the message ``name``.

    ``about`` is what it is about, else its first argument. ``advice`` is the recommendation's
    message with its arguments, else ``NAME.recommendation`` about the same.
    """
    subject = about if about is not None else tuple(str(part) for part in arguments[:1])
    recommendation = advice or (f"{name}.recommendation", *subject)
    return Finding(
        ":".join((name, *subject)),
        ErrorCondition(error=message(name, *arguments), recommendation=message(*recommendation)),
    )
