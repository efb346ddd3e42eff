"""``iroh-moq id``."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.processes import LOOPBACK, finished, started


async def test_a_key_file_is_made_once(tmp_path: Path) -> None:
    key = tmp_path / "deep" / "key"
    made = await finished("id", "--key-file", str(key))
    assert made.code == 0
    assert len(bytes.fromhex(made.text.strip())) == 32
    assert made.errors == f"The key is a new one, in {key}: give that to --key-file.\n"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600

    again = await finished("id", "--key-file", str(key))
    assert again.output == made.output
    assert again.errors == f"The key is in {key}: give that to --key-file.\n"


async def test_json(tmp_path: Path) -> None:
    key = tmp_path / "key"
    made, again = [await finished("id", "--json", "--key-file", str(key)) for _ in range(2)]
    assert made.json == [{"id": made.json[0]["id"], "key_file": str(key), "new": True}]
    assert again.json == [{**made.json[0], "new": False}]
    assert made.errors == again.errors == ""


async def test_the_key_of_the_user(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    shown = await finished("id", "--json", environment=environment)
    path = Path(shown.json[0]["key_file"])
    assert path.is_relative_to(tmp_path)
    assert (await finished("id", "--json", environment=environment)).json[0]["id"] == shown.json[0]["id"]


async def test_it_is_the_id_that_others_dial(tmp_path: Path) -> None:
    key = str(tmp_path / "key")
    shown = await finished("id", "--key-file", key)
    async with started("publish", *LOOPBACK, "--json", "x", "--key-file", key) as publisher:
        assert (await publisher.json())["id"] == shown.text.strip()


@pytest.mark.parametrize("text", ["", "nonsense", "ab" * 31])
async def test_a_file_that_holds_no_key(tmp_path: Path, text: str) -> None:
    key = tmp_path / "key"
    key.write_text(text)
    key.chmod(0o600)
    shown = await finished("id", "--key-file", str(key))
    assert (shown.code, shown.output) == (2, b"")
    assert str(key) in shown.errors
    assert key.read_text() == text


async def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    await finished("id", "--key-file", str(key))
    key.chmod(0o644)
    shown = await finished("id", "--key-file", str(key))
    assert shown.code == 2
    assert "run chmod 600" in shown.errors


async def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shown = await finished("id", "--json", "--key-file", str(tmp_path / "file" / "key"))
    assert (shown.code, shown.output) == (1, b"")
    assert json.dumps(str(tmp_path / "file" / "key"))[1:-1] in shown.errors
