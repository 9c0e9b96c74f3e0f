"""Mechanical patches as line-based edits: comments and formatting stay. Makes edits and applies them; judges nothing.

Every maker returns no edit at all where the text is not in the plain form that it knows how to change (flow
style, anchors, values from a merge): a finding without a patch is better than a broken file.
"""

from __future__ import annotations

import re

from seawall.lint.finding import Edit
from seawall.lint.node import Span, YamlNode

Edits = tuple[Edit, ...]


class Patcher:
    """Makes edits against the texts as they were read."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def replace(self, node: YamlNode, new: str) -> Edits:
        """A new value for a plain or quoted one-line scalar; quotes stay."""
        text = self.texts.get(node.file)
        span = node.span
        if (
            text is None
            or not node
            or node.style in ("|", ">")
            or span.line != span.end_line
            or span.end <= span.start
        ):
            return ()
        old = text[span.start : span.end]
        if old.startswith(("&", "!", "*")):
            return ()
        quote = old[0] if old[:1] in ("'", '"') else ""
        return (Edit(node.file, span.start, span.end, f"{quote}{new}{quote}"),)

    def substitute(self, node: YamlNode, old: str, new: str) -> Edits:
        """Replaces the only occurrence of `old` inside a scalar's text (a query, a script)."""
        text = self.texts.get(node.file)
        if text is None or not node:
            return ()
        body = text[node.span.start : node.span.end]
        if body.count(old) != 1:
            return ()
        at = node.span.start + body.index(old)
        return (Edit(node.file, at, at + len(old), new),)

    def remove_key(self, parent: YamlNode, key: str) -> Edits:
        """Deletes `key: value` with all its lines from a block mapping."""
        text = self.texts.get(parent.file)
        span, child = parent.key_spans.get(key), parent[key]
        if text is None or span is None or parent.flow or not child or len(parent.entries or {}) < 2:
            return ()
        start = _line_start(text, span.start)
        if text[start : span.start].strip():
            return ()  # it stands behind a dash
        return (Edit(child.file, start, _after_line(text, max(_last(text, child.span), span.end)), ""),)

    def add_key(self, parent: YamlNode, lines: list[str]) -> Edits:
        """Adds `lines` as further entries at the end of a block mapping, indented like its keys."""
        text = self.texts.get(parent.file)
        if text is None or parent.flow or not parent.entries or not parent.key_spans:
            return ()
        inside = {
            k: s
            for k, s in parent.key_spans.items()
            if parent.span.start <= s.start < parent.span.end and k in parent.entries
        }  # keys of a joined snippet stand elsewhere
        if not inside:
            return ()
        first = min(inside.values(), key=lambda s: s.start)
        last = max(s.end for s in inside.values())
        for name in inside:
            span = parent.entries[name].span
            if parent.span.start <= span.start <= parent.span.end:
                last = max(last, _last(text, span))
        return self._insert(parent.file, text, last, lines, first.column - 1)

    def add_items(self, sequence: YamlNode, items: list[str]) -> Edits:
        """Appends scalars to a list, block or flow, quoted as the list's own items are."""
        text = self.texts.get(sequence.file)
        if text is None or not sequence.elements or any(i.entries or i.elements for i in sequence):
            return ()
        last = sequence.elements[-1]
        if last.style in ("|", ">") or last.file != sequence.file:
            return ()
        shown = [f'"{i}"' if last.style == '"' or re.fullmatch(r"[\d.]+", i) else i for i in items]
        if sequence.flow:
            return (Edit(sequence.file, last.span.end, last.span.end, "".join(f", {i}" for i in shown)),)
        dash = text.rfind("-", _line_start(text, last.span.start), last.span.start)
        if dash < 0:
            return ()
        indent = dash - _line_start(text, dash)
        return self._insert(sequence.file, text, last.span.end, [f"- {i}" for i in shown], indent)

    def remove_items(self, sequence: YamlNode, items: list[YamlNode]) -> Edits:
        """Deletes items of a list, block or flow."""
        text = self.texts.get(sequence.file)
        elements = sequence.elements or []
        places = [elements.index(i) for i in items if i in elements]
        if text is None or len(places) != len(items) or len(items) == len(elements):
            return ()
        edits: list[Edit] = []
        for at in places:
            span = elements[at].span
            if not sequence.flow:
                start = _line_start(text, span.start)
                if not re.fullmatch(r"[ ]*-[ ]+", text[start : span.start]):
                    return ()
                edits.append(Edit(sequence.file, start, _after_line(text, _last(text, span)), ""))
            elif at + 1 < len(elements):
                edits.append(Edit(sequence.file, span.start, elements[at + 1].span.start, ""))
            else:
                edits.append(Edit(sequence.file, elements[at - 1].span.end, span.end, ""))
        return tuple(edits)

    def _insert(self, file: str, text: str, after: int, lines: list[str], indent: int) -> Edits:
        at = _after_line(text, after)
        lead = "" if at == 0 or text[at - 1 : at] == "\n" else "\n"
        return (Edit(file, at, at, lead + "".join(f"{' ' * indent}{line}\n" for line in lines)),)


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _after_line(text: str, at: int) -> int:
    if at and text[at - 1] == "\n":
        return at
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _last(text: str, span: Span) -> int:
    """The offset behind a node's last visible character."""
    return span.start + len(text[span.start : span.end].rstrip())


def apply(texts: dict[str, str], edits: list[Edits]) -> tuple[dict[str, str], int]:
    """Applies groups of edits, each whole or not at all; one that overlaps an earlier one waits for the next round."""
    taken: list[Edit] = []
    done = 0
    for group in edits:
        if group and not any(_overlap(e, t) for e in group for t in taken):
            taken += group
            done += 1
    changed = dict(texts)
    for file in {e.file for e in taken}:
        text = texts[file]
        for e in sorted((e for e in taken if e.file == file), key=lambda e: (e.start, e.end), reverse=True):
            text = text[: e.start] + e.text + text[e.end :]
        changed[file] = text
    return changed, done


def _overlap(a: Edit, b: Edit) -> bool:
    if a.file != b.file:
        return False
    if a.start == a.end or b.start == b.end:
        return b.start <= a.start <= b.end if a.start == a.end else a.start <= b.start <= a.end
    return a.start < b.end and b.start < a.end
