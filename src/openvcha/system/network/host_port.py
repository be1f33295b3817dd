"""Addresses with ports in URLs: an IPv6 address is in brackets (RFC 3986)."""


def bracketed(address: str) -> str:
    """Return an address or host name as written in a URL."""
    return f"[{address}]" if ":" in address else address


def host_port(address: str, port: int) -> str:
    """Return `address:port`."""
    return f"{bracketed(address)}:{port}"


def url(address: str, port: int, scheme: str = "https") -> str:
    """Return `scheme://address:port`."""
    return f"{scheme}://{host_port(address, port)}"
