"""What the kernel tells of a connection: the byte at which another process goes on."""

from __future__ import annotations

import os
import select
import socket

import pytest

from seawall.drivers.sockets import end, handed_over


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return accepted, client


def test_every_byte_that_was_sent_is_counted_read_or_not() -> None:
    accepted, client = pair()
    with accepted, client:
        accepted.setblocking(False)
        assert handed_over(accepted) == 0, "no SYN counts on this side"
        sent = accepted.send(b"x" * 10)
        assert handed_over(accepted) == sent == 10
        while select.select([], [accepted], [], 0)[1]:  # until the kernel takes no more
            sent += accepted.send(b"y" * 65_536)
        assert handed_over(accepted) == sent
        got = 0
        while got < sent // 2:
            got += len(client.recv(100_000))
            assert handed_over(accepted) == sent, "acknowledged in between"


def test_a_connection_that_is_ending_tells_nothing() -> None:
    accepted, client = pair()
    with accepted, client:
        accepted.send(b"x")
        accepted.shutdown(socket.SHUT_WR)
        assert handed_over(accepted) is None
    accepted, client = pair()
    with accepted:
        client.close()
        select.select([accepted], [], [], 10)
        assert handed_over(accepted) == 0, "it may have closed its half only, and read on"


def test_a_duplicate_keeps_what_is_closed_and_not_what_is_ended() -> None:
    accepted, client = pair()
    kept = os.dup(accepted.fileno())
    with client:
        client.settimeout(10)
        accepted.close()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(10)
        end(kept)
        assert client.recv(1) == b""
    os.close(kept)
