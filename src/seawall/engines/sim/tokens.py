"""A real byte-level BPE tokenizer, the same in every process, made in memory in a few milliseconds.

Its merges are written by a rule (every word of a fixed text becomes one token), not learned: nothing to ship, nothing
to download, nothing that a newer library could learn differently. Characters outside ASCII stay several tokens
long, as they often are in real vocabularies, so that streams are cut inside a character now and then.
"""

from __future__ import annotations

import functools
import json
import re

from tokenizers import Tokenizer

END_OF_TEXT = 0
TURN_START = 1
TURN_END = 2
"""End of sequence, as in ChatML."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

TEXT = """The sea wall stood at the mouth of the harbour and took each wave in turn . When a storm came from the
north , water rose above old stones , boats pulled hard on their ropes , and people in town slept well because
somebody had counted tides , checked every gate , and left a light on . A good wall is built long before rain .
It does not shout or hurry ; it carries weight , lets small waters through , and gives back what it cannot hold .
Children walk along its edge after school and ask how deep this is , why salt tastes sharp , who laid these first
blocks , what happens if one of them breaks . Then another holds , says an engineer , and shows where new mortar
meets dark granite . Ships arrive with copper , paper , oranges , letters and tea ; they wait outside when quays
are full , for no captain likes being turned away twice . You can hear bells , gulls , engines , radios , rain ,
wind over wires , then silence again . Every morning measures yesterday : so many arrived , so many left , none
lost . user assistant system hello world capital France Paris please tell story about answer question number"""
MULTI_TOKEN = (
    "🌊",
    "🧱",
    "👩‍🚀",
    "é",
    "ß",
    "海",
    "壁",
    "波",
    "مد",
    "вал",
    "防波堤",
    "—",
    "“",
    "”",
    "…",
    "🌙✨",
)


@functools.cache
def _byte_to_unicode() -> dict[int, str]:
    """GPT-2's map from bytes to printable characters (openai/gpt-2, encoder.py: bytes_to_unicode)."""
    keep = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {b: chr(b) for b in keep}
    spare = 256
    for b in range(256):
        if b not in table:
            table[b] = chr(spare)
            spare += 1
    return table


def _merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    table = _byte_to_unicode()
    vocab = {piece: i for i, piece in enumerate(SPECIAL)}
    for b in range(256):
        vocab[table[b]] = len(vocab)
    merges: list[tuple[str, str]] = []
    words = sorted(set(re.findall(r"[A-Za-z]+|[.,;:]", TEXT)))
    for word in [*words, *(" " + w for w in words)]:
        letters = [table[b] for b in word.encode()]
        piece = letters[0]
        for letter in letters[1:]:
            if piece + letter not in vocab:
                vocab[piece + letter] = len(vocab)
                merges.append((piece, letter))
            piece += letter
    return vocab, merges


class Vocabulary:
    """The tokenizer with the tables that generation needs."""

    def __init__(self) -> None:
        vocab, merges = _merges()
        definition = {
            "version": "1.0",
            "added_tokens": [
                {
                    "id": i,
                    "content": piece,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for i, piece in enumerate(SPECIAL)
            ],
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "vocab": vocab,
                "merges": [list(m) for m in merges],
                "ignore_merges": False,
            },
        }
        self.definition = json.dumps(definition)
        self.tokenizer = Tokenizer.from_str(self.definition)
        self.size = len(vocab)
        back = {c: b for b, c in _byte_to_unicode().items()}
        self.pieces: list[str] = [""] * self.size
        self.bytes: list[bytes] = [b""] * self.size
        for piece, i in vocab.items():
            self.pieces[i] = piece
            self.bytes[i] = piece.encode() if i < len(SPECIAL) else bytes(back[c] for c in piece)
        self.words = [vocab[_printable(" " + w)] for w in sorted(set(re.findall(r"[A-Za-z]+", TEXT)))]
        self.words += [vocab[_printable(p)] for p in (".", ",", ";")]
        self.starts: list[int] = []
        self.follow: dict[bytes, list[int]] = {}
        self._learn_characters()

    def _learn_characters(self) -> None:
        """Which tokens open a character of several tokens, and which may continue what is open."""
        starts: set[int] = set()
        follow: dict[bytes, set[int]] = {}
        for text in MULTI_TOKEN:
            held = b""
            for token in self.encode(text):
                if held:
                    follow.setdefault(held, set()).add(token)
                else:
                    starts.add(token)
                held = incomplete_tail(held + self.bytes[token])
        self.starts = sorted(starts)
        self.follow = {held: sorted(tokens) for held, tokens in follow.items()}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens written in it are recognised, none is added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def chat(self, messages: list[tuple[str, str]], *, generation_prompt: bool = True) -> str:
        """The ChatML template: [(role, content)] -> prompt text."""
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
        return text + "<|im_start|>assistant\n" if generation_prompt else text


def _printable(text: str) -> str:
    table = _byte_to_unicode()
    return "".join(table[b] for b in text.encode())


def incomplete_tail(data: bytes) -> bytes:
    """The bytes at the end that open a UTF-8 character and do not finish it."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 == 0x80:
            continue
        need = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        return data[-back:] if need > back else b""
    return b""


@functools.cache
def vocabulary() -> Vocabulary:
    """The one vocabulary of this process (about 20 ms the first time)."""
    return Vocabulary()
