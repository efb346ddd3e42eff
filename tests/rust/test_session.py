"""Sessions with the Rust stack: how they end, both directions at once, a relay between, and odd streams."""

from __future__ import annotations

import moq
import pytest

from tests.rust.conftest import Link
from tests.rust.peers import error_code


async def rust_closed(link: Link) -> int | None:
    """The code that Rust saw its session end with."""
    with pytest.raises(moq.Error) as caught:
        await link.rust.closed()
    return error_code(caught.value)
