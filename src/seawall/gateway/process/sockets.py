"""Sockets of a gateway process and the TLS on them: binding beside another gateway, and handing a port over."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import socket
import struct
from ipaddress import ip_address

from seawall.errors import InputError

ATTACH_REUSEPORT_CBPF, BPF_RETURN = 51, 0x06
RESERVED = 64
"""Descriptors that neither clients nor engines get."""


def bind(address: str, what: str) -> socket.socket:
    """A socket with SO_REUSEPORT, so that a new gateway can take over from an old one. It does not listen yet: who
    listens before it serves would be given connections that wait."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"
    if not port.isdigit() or int(port) > 65535:
        raise InputError(f"{address!r} is not an address for {what}.", "Write HOST:PORT.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, int(port)))
    except OSError as e:
        sock.close()
        raise InputError(
            f"cannot listen on {address} for {what}: {e.strerror}.",
            "Choose another address, or stop who has it.",
        ) from None
    sock.setblocking(False)
    return sock


def serves_at(sock: socket.socket, address: str) -> bool:
    """A listening socket is one for this address: port 0 stands for any."""
    port = address.rpartition(":")[2]
    return port in ("0", str(sock.getsockname()[1]))


def serves_this_machine(sock: socket.socket) -> bool:
    """Nobody else reaches this listening socket."""
    return ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


def steer_away(sock: socket.socket) -> None:
    """From now on the kernel gives new connections to the other listener of this port, if there is one: the close of
    a listening socket resets those that wait in its own queue.

    A classic BPF program that returns 1, the newer of two; without a second listener the kernel ignores it. See
    SO_ATTACH_REUSEPORT_CBPF in socket(7); `struct sock_filter` is (u16 code, u8 jt, u8 jf, u32 k).
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 1))
    with contextlib.suppress(OSError):  # not Linux: the old race, no worse
        sock.setsockopt(
            socket.SOL_SOCKET, ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program))
        )


def clients_at_most() -> int:
    """By the descriptors there are: each client may need one to an engine, and some are for files, workers, the admin
    port and discovery."""
    return max(8, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED) // 2)


def url_of(sock: socket.socket, tls: bool) -> str:
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
