"""The agent of a host whose VMs run a stand-in: a program, for hosts of their own."""

from tests.support.two_hosts import stand_in_agent

from openvcha.daemon.host_agent import serve

if __name__ == "__main__":
    serve(stand_in_agent())
