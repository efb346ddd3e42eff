"""Serving a command's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..moq import Moq
from .output import say
from .run import Exit, Failure

__all__ = ["serving"]


@contextmanager
def serving(moq: Moq, address: str, port: int) -> Iterator[None]:
    """Serves the metrics, and says where, while the block runs.

    Raises:
        Failure: the package for it is missing, or nobody can listen there.
    """
    try:
        from ..prometheus import serve  # noqa: PLC0415 - an extra that may not be installed
    except ImportError as error:
        raise Failure(Exit.FAILED, "--metrics needs one more package: pip install 'iroh-moq[prometheus]'") from error
    host = f"[{address}]" if ":" in address else address
    with ExitStack() as stack:
        try:
            bound = stack.enter_context(serve(moq, address=address, port=port))
        except OSError as error:
            raise Failure(Exit.FAILED, f"metrics cannot be served on {host}:{port}: {error}") from error
        say(f"Metrics are on http://{host}:{bound}/metrics")
        yield
