"""A process that opens connections and keeps them open, silently.

python crowd.py PORT SILENT TLS

The first SILENT connections do not even begin TLS. It writes a line once all were started, and ends
when its standard input does, or after some minutes.
"""

import contextlib
import os
import resource
import select
import signal
import socket
import ssl
import sys

LONGEST_SECONDS = 300


def main(port: int, silent: int, tls: int) -> None:
    """Open the connections one after the other; those that are closed are not replaced."""
    signal.alarm(LONGEST_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    kept = []
    for number in range(silent + tls):
        with contextlib.suppress(OSError):
            plain = socket.create_connection(("127.0.0.1", port), 60)
            kept.append(plain if number < silent else context.wrap_socket(plain))
    os.write(1, b"open\n")
    select.select([0], [], [])


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
