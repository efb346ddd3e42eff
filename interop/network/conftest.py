"""What all cases over a network share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from . import namespaces
from .namespaces import Networks


@pytest.fixture(scope="session")
def networks() -> Iterator[Networks]:
    """The namespaces."""
    if not namespaces.are_possible():
        pytest.skip("network namespaces need root on Linux, and the command ip")
    with ExitStack() as stack:
        yield Networks.make(stack)
