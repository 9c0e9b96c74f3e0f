"""What the kernel knows of a TCP connection that another process may have written to. Linux; nothing is kept here."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios

OPEN = (1, 8)
"""States of a connection that may be written to: established, and with a peer that has ended its half (CLOSE_WAIT)."""
_INFO_BYTES = 192
_STATE_AT = 0
_ACKED_AT = 120
"""Where in tcp_info of linux/tcp.h: its state stands, and the bytes acknowledged (since Linux 4.2)."""


def handed_over(sock: socket.socket) -> int | None:
    """Bytes that were ever handed to the kernel on an accepted connection: those that its peer has acknowledged, and
    those that wait to be. No SYN counts on the side that accepted (it does on the one that connected); a FIN would, so
    None for a connection that this side has begun to end, and where the kernel does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        waiting = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except (OSError, AttributeError):
        return None
    if len(info) < _ACKED_AT + 8 or info[_STATE_AT] not in OPEN:
        return None
    # Read again if an acknowledgement came between the two: it would be counted on neither side, or on both.
    after = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    if after[_ACKED_AT : _ACKED_AT + 8] != info[_ACKED_AT : _ACKED_AT + 8]:
        return handed_over(sock)
    acked: int = struct.unpack_from("Q", info, _ACKED_AT)[0]
    return acked + int(waiting)


def end(fd: int) -> None:
    """Ends the connection of a descriptor, also where other processes hold duplicates of it: these only keep what is
    closed, not what is shut down. The descriptor stays open."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has ended
            return
