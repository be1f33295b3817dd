"""Whether the rules of a host's firewall let our ports through: pure, and on the safe side.

The rules are a language of their own. A port counts as open only if the input's default is to
accept and no rule drops or rejects anything there, or if a rule names the port and accepts it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

_NAMED_PORTS = re.compile(r"\bdports?\s+(?:\{([^}]*)\}|([\w:,-]+))")
_REFUSES = re.compile(r"\b(drop|reject)\b", re.IGNORECASE)
_ACCEPTS = re.compile(r"\baccept\b", re.IGNORECASE)
_BESIDE_THE_POINT = re.compile(
    r"\b(ct state (invalid|vmap)|ctstate INVALID|udp|icmp\w*|ipv6-icmp)\b", re.IGNORECASE
)
"""Rules for other protocols, and for packets of no connection."""


def closed_ports(
    nft: Sequence[str], iptables: Sequence[str], ports: Iterable[int]
) -> tuple[int, ...]:
    """Return the TCP ports that a rule may close."""
    lists = [list(rules) for rules in (_nft_input(nft), _iptables_input(iptables))]
    return tuple(port for port in ports if any(_may_close(rules, port) for rules in lists))


def _may_close(rules: Sequence[str], port: int) -> bool:
    """Return whether one list of rules closes a port: any rule that refuses, before one accepts."""
    for rule in rules:
        if _BESIDE_THE_POINT.search(rule):
            continue
        ports = list(_ports(rule))
        meant = not ports or any(low <= port <= high for low, high in ports)
        if meant and _REFUSES.search(rule):
            return True
        if ports and meant and _ACCEPTS.search(rule):
            return False
    return False


def _nft_input(lines: Sequence[str]) -> Iterator[str]:
    """Yield the rules of all chains at the input, each chain's default last."""
    rules: list[str] = []
    default, at_input = "", False
    for line in lines:
        text = line.strip()
        if text.startswith("chain "):
            rules, default, at_input = [], "", False
        elif "hook input" in text:
            at_input, default = True, "drop" if "policy drop" in text else ""
        elif text == "}":
            if at_input:
                yield from [*rules, *([default] if default else [])]
            rules, default, at_input = [], "", False
        elif text:
            rules.append(text)


def _iptables_input(lines: Sequence[str]) -> Iterator[str]:
    """Yield the rules of INPUT and of the chains to which it leads, the default last."""
    default = ""
    for line in lines:
        if line.startswith(":INPUT "):
            default = "DROP" if " DROP" in line else ""
        elif line.startswith("-A INPUT ") or (
            line.startswith("-A ") and not line.startswith(("-A OUTPUT ", "-A FORWARD "))
        ):
            yield line
        elif line.strip() == "COMMIT" and default:
            yield default
            default = ""


def _ports(rule: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ports that a rule names by number; none if it means all or others."""
    for braced, plain in _NAMED_PORTS.findall(rule):
        for word in re.split(r"[\s,]+", braced or plain):
            low, _, high = word.replace(":", "-").partition("-")
            if low.isdecimal() and (high or low).isdecimal():
                yield int(low), int(high or low)
