"""What the versions say about themselves."""

from __future__ import annotations

import pytest

from iroh_moq import ALPN, ALPNS, ErrorCode
from iroh_moq.lite.version import LITE_03, LITE_04, LITE_05, VERSIONS, Reply, Version, unsupported, version_of


def test_the_newest_comes_first() -> None:
    assert ALPNS == (b"moq-lite-05", b"moq-lite-04", b"moq-lite-03")
    assert ALPN == b"moq-lite-03"
    assert VERSIONS == (LITE_05, LITE_04, LITE_03)


@pytest.mark.parametrize("version", VERSIONS, ids=repr)
def test_a_version_is_found_by_its_name(version: Version) -> None:
    assert version_of(version.alpn) is version
    assert repr(version) == f"<{version.name}>"


def test_a_name_of_the_applications_own_stands_for_the_oldest() -> None:
    assert version_of(b"chat/1") is version_of(b"") is LITE_03


def test_what_each_has() -> None:
    def features(version: Version) -> tuple[bool, ...]:
        return version.setup, version.fetch, version.track_info, version.timestamps, version.datagrams

    assert features(LITE_03) == features(LITE_04) == (False,) * 5
    assert features(LITE_05) == (True,) * 5
    assert (LITE_03.hop_ids, LITE_04.hop_ids, LITE_05.hop_ids) == (False, True, True)
    assert Reply.OK in LITE_04.replies
    assert Reply.OK not in LITE_05.replies


def test_what_one_cannot_do_is_said_with_its_name() -> None:
    error = unsupported(LITE_04, "datagrams")
    assert error.code == ErrorCode.UNSUPPORTED
    assert "moq-lite-04, which has no datagrams" in str(error)
