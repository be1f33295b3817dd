"""Orders to the agents of hosts, by SSH."""

from collections.abc import Sequence

from openvcha.infrastructure.hosts.address import HostAddress
from openvcha.infrastructure.hosts.checks import HOME
from openvcha.infrastructure.hosts.commands import HostUnreachable, last_words, quoted
from openvcha.infrastructure.hosts.orders import Order, encode_order
from openvcha.infrastructure.hosts.ssh import Ssh, SshHost, UnusableKey
from openvcha.infrastructure.inventory import Host

AGENT = (f"{HOME}/bin/python", "-P", "-m", "openvcha.daemon.host_agent")


class SshAgents:
    """The agents of hosts; ``command`` runs one there."""

    def __init__(self, ssh: Ssh, command: Sequence[str] = AGENT) -> None:
        self._ssh = ssh
        self._command = quoted(*command)

    async def __call__(self, host: Host, order: Order, seconds: float) -> bytes:
        """Have an order carried out, and return the answer. Raises HostUnreachable."""
        if host.access is None or not host.access.host_key:
            raise HostUnreachable("it is not known how to reach it")
        address = HostAddress(host.access.user, host.access.address, host.access.port)
        target = SshHost(address, (host.access.host_key,))
        text = encode_order(order)
        try:
            outcome = await self._ssh.run(target, self._command, stdin=text, seconds=seconds)
        except UnusableKey as error:
            raise HostUnreachable(str(error)) from error
        if outcome.code != 0:
            raise HostUnreachable(f"its agent does not work: {last_words(outcome)}")
        return outcome.output.encode()
