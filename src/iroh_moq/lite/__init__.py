"""The moq-lite-03 protocol: messages and decoders without I/O, and the two sides of a session."""

from .session import ALPN, LiteSession

__all__ = ["ALPN", "LiteSession"]
