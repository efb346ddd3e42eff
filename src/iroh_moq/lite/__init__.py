"""The moq-lite protocol in its versions: messages and decoders without I/O, and the two sides of a session."""

from .session import LiteSession, new_origin_id
from .version import ALPN, ALPNS

__all__ = ["ALPN", "ALPNS", "LiteSession", "new_origin_id"]
