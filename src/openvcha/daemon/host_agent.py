"""The agent of a host: a data node runs it by SSH, with one order on its standard input.

`python -m openvcha.daemon.host_agent` imports no command line: that would double its time.
"""

import asyncio
import sys

from openvcha.infrastructure.hosts.agent import Agent, Machine
from openvcha.infrastructure.hosts.orders import MAX_ORDER_BYTES, AskHelper
from openvcha.infrastructure.hosts.units import node_units
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.node.address.interface.client import HelperLink, obstacle
from openvcha.node.process.process_tree import NodeProcesses


def main() -> None:
    """Read an order, carry it out and write the answer."""
    units = node_units(DetachedStarter())
    machine = Machine(ask_helper=ask_helper)
    serve(Agent(NodeProcesses(), units, units=units, machine=machine))


async def ask_helper(order: AskHelper) -> str:
    """Return why the helper of this machine could not hold an address; empty if it could."""
    return await obstacle(HelperLink(order.socket), order.interface, order.address)


def serve(agent: Agent) -> None:
    """Carry out the order on standard input and write its result; refuse one that is too long."""
    text = sys.stdin.buffer.read(MAX_ORDER_BYTES + 1)
    sys.stdout.buffer.write(asyncio.run(agent.answer(text[:MAX_ORDER_BYTES])))


if __name__ == "__main__":
    main()
