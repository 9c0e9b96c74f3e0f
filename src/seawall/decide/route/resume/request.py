"""The first request: what is added to the client's body so that the stream can be resumed and counted.

Its bytes are kept where no field has to be replaced. Forbidden here: adding what nobody needs: ids of a huge
prompt cost an echo, a seed costs the engine throughput.
"""

from __future__ import annotations

from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.ways import BodyFields, Row, needs_seed


def records_ids(ask: BodyFields, row: Row) -> bool:
    return row.way == "continue" and ask.policy.mode != "off"


def hides_usage(ask: BodyFields, row: Row) -> bool:
    """Ask for a usage chunk that the client does not want: the only count where no ids are told.

    Not with several choices: their finish chunks would have to wait for it (it takes their fingerprint along).
    """
    if ask.kind not in ("chat", "completions") or records_ids(ask, row) or not ask.policy.usage:
        return False
    return ask.choices == 1 and not ask.wants_usage


def first_body(ask: BodyFields, row: Row, seed: int) -> bytes:
    """The body for the first replica, and for any other as long as the client has seen nothing. `seed`: for one that
    needs a seed."""
    added: Doc = {}
    if records_ids(ask, row) and not ask.wants_ids:
        added["return_token_ids"] = True
    if hides_usage(ask, row):
        options = ask.get("stream_options", {})
        options = dict(options) if isinstance(options, dict) else {}
        if options.get("continuous_usage_stats"):
            options["continuous_usage_stats"] = False  # idle without include_usage, and must stay so
        added["stream_options"] = options | {"include_usage": True}
    if ask.policy.mode != "off" and needs_seed(ask, row.way):
        added["seed"] = seed
    return _with_fields(ask, added)


def _with_fields(ask: BodyFields, added: Doc) -> bytes:
    if not added:
        return ask.body
    if ask.members is not None:
        ask.moved(ask.members.with_fields({name: events.encode(value) for name, value in added.items()}))
        return ask.body
    if not ask.fields.keys().isdisjoint(added):
        return events.encode({**ask.fields, **added})
    end = ask.body.rstrip()
    comma = b"," if ask.fields else b""
    return end[:-1] + comma + events.encode(added)[1:]
