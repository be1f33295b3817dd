"""The catalogue of messages: every text shown to a caller, by its id.

Each module holds the texts of one subject, where our own ids omit their prefix. Each `%s` takes
an argument.
"""

from collections.abc import Mapping
from types import MappingProxyType

from openvcha.api.foreign_text import MAX_SHOWN, truncate
from openvcha.api.messages.events import EVENTS
from openvcha.api.messages.files import FILES
from openvcha.api.messages.health import HEALTH
from openvcha.api.messages.hosts import HOSTS
from openvcha.api.messages.manual_join import MANUAL_JOIN
from openvcha.api.messages.operations import OPERATIONS
from openvcha.api.messages.placement import INFRASTRUCTURE, PEER, PLACEMENT
from openvcha.api.messages.postgresql import POSTGRESQL
from openvcha.api.messages.progress import PROGRESS
from openvcha.api.messages.requests import DECODING, KNOWN, PROTOCOLS
from openvcha.api.messages.tasks import TASKS
from openvcha.api.structures.std import LocalizableMessage

PREFIX = "com.vmware.vcenter.vcha."


def _catalogue() -> Mapping[str, str]:
    texts = dict(KNOWN)
    for subject in (
        DECODING,
        PROTOCOLS,
        TASKS,
        OPERATIONS,
        HEALTH,
        PROGRESS,
        POSTGRESQL,
        EVENTS,
        MANUAL_JOIN,
        HOSTS,
        PLACEMENT,
        INFRASTRUCTURE,
        PEER,
        FILES,
    ):
        for name, text in subject.items():
            if PREFIX + name in texts:
                raise ValueError(f"message {name} is defined twice")
            texts[PREFIX + name] = text
    return MappingProxyType(texts)


CATALOGUE = _catalogue()


def message(name: str, *arguments: object) -> LocalizableMessage:
    """Return a message of the catalogue, by its full id or, for ours, the id without the prefix.

    An argument may quote a caller's text, so each is truncated to ``MAX_SHOWN``.
    Raises KeyError for an unknown id and ValueError for a wrong number of arguments.
    """
    full = name if name in CATALOGUE else PREFIX + name
    text = CATALOGUE[full]
    texts = tuple(truncate(str(argument), MAX_SHOWN) for argument in arguments)
    if text.replace("%%", "").count("%s") != len(texts):
        raise ValueError(f"message {full} takes other arguments than {len(texts)}")
    return LocalizableMessage(id=full, default_message=text % texts, args=texts)
