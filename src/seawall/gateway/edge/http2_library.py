"""h2 and hpack, as the gateway sets them up. Forbidden here: frames that they do not know of."""

from __future__ import annotations

from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack.hpack import Decoder, Encoder

from seawall.gateway.edge.http2_head import LENGTH, Fields

MAX_STREAMS: Final = 256
STREAM_WINDOW: Final = 1 << 20
"""Of a body that may be on its way; what has come is counted and bounded as everywhere."""
CONNECTION_WINDOW: Final = 16 << 20
_LAST: Final = 2**31 - 1
_config: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class HeadDecoder(Decoder):
    """Keeps the fields of the last head for us. The library is not told of a length: it would end the connection when
    the body has another one."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: Fields = []

    def decode(self, data: bytes, raw: bool = False) -> Any:
        made = super().decode(data, raw)
        self.fields = [(bytes(name), bytes(value)) for name, value in made]
        return [field for field in made if field[0] != LENGTH]


class HeadEncoder(Encoder):
    """Writes fields as they are, and remembers none. The library's search for what it has written before takes a third
    of an answer's time, and its Huffman code time by the square of a value's length, and a client chooses some of the
    values."""

    def __init__(self) -> None:
        super().__init__()
        self._resized = False

    @property
    def header_table_size(self) -> int:
        """Of what a client remembers for us: nothing, whatever it offers."""
        return 0

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self._resized = True

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        """RFC 7541: literals without indexing (6.2.2), behind the word that the table is empty (6.3) where its size has
        been changed."""
        out = bytearray(b"\x20" if self._resized else b"")
        self._resized = False
        for name, value in headers:
            if name == b":status":
                out += b"\x88" if value == b"200" else b"\x08" + _sized(value)
            else:
                out += b"\x00" + _sized(name) + _sized(value)
        return bytes(out)


def _sized(data: bytes) -> bytes:
    """A string behind its length, a number with a prefix of 7 bits (RFC 7541, 5.1)."""
    size = len(data)
    if size < 127:
        return b"%c%b" % (size, data)
    size -= 127
    number = bytearray(b"\x7f")
    while size > 127:
        number.append(size & 127 | 128)
        size >>= 7
    number.append(size)
    return bytes(number) + data


class Library(H2Connection):
    """h2's connection, which forgets closed streams sooner: it would keep 65,536."""

    MAX_CLOSED_STREAMS = 1024

    def __init__(self, max_head: int) -> None:
        super().__init__(_config)
        self.decoder = self.heads = HeadDecoder()
        self.encoder = HeadEncoder()
        told = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: max_head,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
        }
        self.local_settings = Settings(client=False, initial_values=told)
        self.initiate_connection()
        # Who has not read them yet is no enemy: what goes beyond is refused stream by stream, and head by head.
        meant = {**told, SettingCodes.MAX_CONCURRENT_STREAMS: _LAST}
        self.local_settings = Settings(client=False, initial_values=meant)
        self.most_of_head = self.heads.max_header_list_size = 2 * max_head + 4096
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def forget(self) -> None:
        """The connection is over. The library's table of its own methods is a cycle: thousands of such connections
        would wait for the collector, which then holds the loop while it frees them all."""
        self._frame_dispatch_table.clear()
