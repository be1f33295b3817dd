"""The VMs whose votes this node hangs on while a task changes the votes, kept on its own disk.

Of two votes each is needed. Where the other one's node loses its power the store stops, and with it
the task that would know what to do: so what is needed then is written down before.
"""

from collections.abc import Collection

import msgspec

from openvcha.node.durable import write_durably
from openvcha.node.layout import Layout


class Relied(msgspec.Struct, frozen=True):
    """The identifiers of the VMs in the node's infrastructure."""

    vms: tuple[str, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Relied)


def rely_on(layout: Layout, vms: Collection[str]) -> None:
    """Write down, durably, which VMs have to be on. Raises OSError."""
    write_durably(layout.relied, _ENCODER.encode(Relied(tuple(vms))))


def relied_on(layout: Layout) -> tuple[str, ...]:
    """Return the VMs that have to be on; none where nothing readable is written."""
    try:
        return _DECODER.decode(layout.relied.read_bytes()).vms
    except (OSError, msgspec.DecodeError):
        return ()


def rely_on_nobody(layout: Layout) -> None:
    """Forget them: the task is over."""
    layout.relied.unlink(missing_ok=True)
