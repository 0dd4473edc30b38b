"""Two hosts behind two NATs and a server in public, made of network namespaces.

    host-a 10.1.0.2 ── nat-a 198.51.100.2 ┐
                                          ├── public: router and server (198.51.100.1)
    host-b 10.2.0.2 ── nat-b 203.0.113.2 ─┘

NATs masquerade and let in only what belongs to a connection that went out. In IPv6 the hosts have public
addresses behind the same kind of firewall. A "symmetric" NAT takes a random port for every connection.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PUBLIC_V4, PUBLIC_V6 = "198.51.100.1", "2001:db8:f1::1"
_WANS = {1: "198.51.100", 2: "203.0.113"}


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


class Network:
    """Names of the namespaces; `run_in` starts a process in one of them."""

    def __init__(self) -> None:
        self._suffix = str(os.getpid())
        self.names = [f"sky-{each}-{self._suffix}" for each in ("public", "nat-a", "nat-b", "host-a", "host-b")]
        self.public, self.nat_a, self.nat_b, self.host_a, self.host_b = self.names

    def inside(self, namespace: str, *command: str) -> list[str]:
        """The command, run in a namespace."""
        return ["ip", "netns", "exec", namespace, *command]

    def do(self, namespace: str, *command: str) -> None:
        """Run a command in a namespace to its end."""
        subprocess.run(self.inside(namespace, *command), check=True, capture_output=True, text=True, timeout=20)

    def build(self, symmetric: bool) -> None:
        for name in self.names:
            _ip("netns", "add", name)
            self.do(name, "ip", "link", "set", "lo", "up")
        self.do(self.public, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for number, (nat, host) in enumerate([(self.nat_a, self.host_a), (self.nat_b, self.host_b)], start=1):
            self._side(nat, host, number, symmetric)

    def _side(self, nat: str, host: str, number: int, symmetric: bool) -> None:
        _ip("link", "add", f"p{number}", "netns", self.public, "type", "veth", "peer", "name", "wan", "netns", nat)
        _ip("link", "add", "lan", "netns", nat, "type", "veth", "peer", "name", "eth", "netns", host)
        for namespace, device, v4, v6 in (
            (self.public, f"p{number}", f"{_WANS[number]}.1/24", f"2001:db8:f{number}::1/64"),
            (nat, "wan", f"{_WANS[number]}.2/24", f"2001:db8:f{number}::2/64"),
            (nat, "lan", f"10.{number}.0.1/24", f"2001:db8:{number}::1/64"),
            (host, "eth", f"10.{number}.0.2/24", f"2001:db8:{number}::2/64"),
        ):
            self.do(namespace, "ip", "addr", "add", v4, "dev", device)
            self.do(namespace, "ip", "addr", "add", v6, "dev", device, "nodad")
            self.do(namespace, "ip", "link", "set", device, "up")
        self.do(host, "ip", "route", "add", "default", "via", f"10.{number}.0.1")
        self.do(host, "ip", "-6", "route", "add", "default", "via", f"2001:db8:{number}::1")
        self.do(nat, "ip", "route", "add", "default", "via", f"{_WANS[number]}.1")
        self.do(nat, "ip", "-6", "route", "add", "default", "via", f"2001:db8:f{number}::1")
        self.do(self.public, "ip", "-6", "route", "add", f"2001:db8:{number}::/64", "via", f"2001:db8:f{number}::2")
        self.do(nat, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        ports = ["--random-fully"] if symmetric else []
        self.do(nat, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE", *ports)
        for tables in ("iptables", "ip6tables"):
            self.do(nat, tables, "-A", "FORWARD", "-i", "lan", "-j", "ACCEPT")
            state = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
            self.do(nat, tables, "-A", "FORWARD", *state, "-j", "ACCEPT")
            self.do(nat, tables, "-P", "FORWARD", "DROP")

    def destroy(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


@contextmanager
def two_nats(symmetric: bool) -> Iterator[Network]:
    """The network, gone afterwards; skips only where the kernel forbids it."""
    missing = [tool for tool in ("ip", "iptables", "ip6tables") if shutil.which(tool) is None]
    assert not missing, f"install {' '.join(missing)} (Debian: iproute2 iptables) to test hole punching"
    allowed = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True, text=True, timeout=20)
    if allowed.returncode:
        pytest.skip(f"the kernel forbids network namespaces: {allowed.stderr.strip()}")
    network = Network()
    try:
        network.build(symmetric)
        yield network
    finally:
        network.destroy()
