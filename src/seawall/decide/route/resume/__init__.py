"""Resuming a broken stream on another replica: `StreamSession` decides and rewrites, the gateway sends."""

from seawall.decide.route.resume.policy import Breaks, Decision, Finish, GiveUp, Policy, Retry, Usage
from seawall.decide.route.resume.session import StreamSession
from seawall.decide.route.resume.ways import TABLE, BodyFields, Row, way_of

__all__ = [
    "TABLE",
    "BodyFields",
    "Breaks",
    "Decision",
    "Finish",
    "GiveUp",
    "Policy",
    "Retry",
    "Row",
    "StreamSession",
    "Usage",
    "way_of",
]
