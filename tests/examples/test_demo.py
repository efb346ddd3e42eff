"""The demonstration, with the real command, and with one that does something wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.examples.programs import Program, running

_CONTENT = bytes(range(256)) * 1000

_SUMMARY = json.dumps({"groups": 1, "bytes": 15, "seconds": 0.5, "bytes_per_second": 2.0})
_PUBLISHED = json.dumps({"event": "published", "ticket": "endpointabc"})

_COMMAND = """
import os, sys, signal
command, here = sys.argv[1], os.path.dirname(os.path.dirname(__file__))
with open(os.path.join(here, "pid of " + command), "w") as out:
    out.write(str(os.getpid()))
def forever():
    signal.pause()
def publish():
    {publish}
def subscribe():
    {subscribe}
sys.stdout.reconfigure(line_buffering=True)
{{"publish": publish, "subscribe": subscribe}}[command]()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file.bin"
    path.write_bytes(_CONTENT)
    return path


class _Demo:
    """A run of the demonstration, whose temporary files and processes can be looked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / "temporary"
        self._temporary.mkdir()

    @asynccontextmanager
    async def runs(self, *arguments: str) -> AsyncIterator[Program]:
        environment = {"PYTHONPATH": str(self._folder), "TMPDIR": str(self._temporary)}
        async with running("demo", *arguments, network=None, environment=environment) as program:
            yield program

    def command(self, *, publish: str, subscribe: str = "forever()") -> None:
        """Puts another command in the place of the real one."""
        package = self._folder / "iroh_moq"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(_COMMAND.format(publish=publish, subscribe=subscribe))

    def empty_file(self) -> str:
        path = self._folder / "empty"
        path.touch()
        return str(path)

    @property
    def files_left(self) -> list[Path]:
        return list(self._temporary.rglob("*"))

    def assert_nothing_left(self, *commands: str) -> None:
        """Neither files nor the processes of these commands, which have run."""
        assert not self.files_left
        for command in commands:
            pid = int((self._folder / f"pid of {command}").read_text())
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.fixture
def demo(tmp_path: Path) -> _Demo:
    return _Demo(tmp_path)


async def test_a_file_of_ones_own(demo: _Demo, file: Path) -> None:
    digest = hashlib.sha256(_CONTENT).hexdigest()
    async with demo.runs(str(file)) as program:
        assert await program.ends() == 0
    said = program.output
    assert "Streaming a file.bin (0.3 MB)" in said
    assert said.index("$ iroh-moq publish demo --file") < said.index("$ iroh-moq subscribe endpoint")
    assert "  100 %   0.3 MB" in said
    assert "Received 256000 of 256000 bytes in 1 groups, " in said
    assert said.count(digest) == 2
    assert said.splitlines()[-1] == "They match."
    demo.assert_nothing_left()


async def test_an_empty_file(demo: _Demo) -> None:
    async with demo.runs(demo.empty_file()) as program:
        assert await program.ends() == 0
    assert "Received 0 of 0 bytes in 0 groups" in program.output
    assert program.output.count(hashlib.sha256().hexdigest()) == 2


async def test_the_default_is_the_library_of_iroh(demo: _Demo) -> None:
    spec = importlib.util.find_spec("iroh.iroh_ffi")
    assert spec is not None
    assert spec.origin is not None
    async with demo.runs() as program:
        streamed = (await program.says(r"^Streaming (.*) \(\d\d\.\d MB\)"))[1]
        assert await program.ends() == 0
    library = Path(spec.origin).parent / streamed
    assert library.suffix in (".so", ".dylib", ".dll")
    assert program.output.count(hashlib.sha256(library.read_bytes()).hexdigest()) == 2
    tenths = [line.split("%")[0].strip() for line in program.output.splitlines() if " %   " in line]
    assert len(tenths) > 1
    assert tenths == sorted(tenths, key=int)
    assert tenths[-1] == "100"


async def test_no_such_file(demo: _Demo, tmp_path: Path) -> None:
    async with demo.runs(str(tmp_path / "none")) as program:
        assert await program.ends() == 1
    assert "demo: [Errno 2] No such file" in program.output


async def test_a_folder(demo: _Demo, tmp_path: Path) -> None:
    async with demo.runs(str(tmp_path)) as program:
        assert await program.ends() == 1
    assert program.output.splitlines()[-1].endswith("is not a file")


async def test_what_comes_out_is_not_what_went_in(demo: _Demo, file: Path) -> None:
    demo.command(
        publish=f"print({_PUBLISHED!r})",
        subscribe=f"print('something else'); print({_SUMMARY!r}, file=sys.stderr)",
    )
    async with demo.runs(str(file)) as program:
        assert await program.ends() == 1
    assert program.output.splitlines()[-1] == "demo: what was received is not what was sent"
    demo.assert_nothing_left("publish", "subscribe")


async def test_the_publisher_fails_at_once(demo: _Demo, file: Path) -> None:
    demo.command(publish="sys.exit(9)")
    async with demo.runs(str(file)) as program:
        assert await program.ends() == 1
    assert program.output.splitlines()[-1] == "demo: the publisher ended with exit code 9"
    demo.assert_nothing_left("publish")


async def test_the_publisher_fails_in_the_end(demo: _Demo, file: Path) -> None:
    demo.command(publish=f"print({_PUBLISHED!r}); sys.exit(9)", subscribe=f"print({_SUMMARY!r}, file=sys.stderr)")
    async with demo.runs(str(file)) as program:
        assert await program.ends() == 1
    assert program.output.splitlines()[-1] == "demo: the publisher ended with exit code 9"
    demo.assert_nothing_left("publish", "subscribe")


async def test_the_subscriber_fails(demo: _Demo, file: Path) -> None:
    demo.command(publish=f"print({_PUBLISHED!r}); forever()", subscribe="sys.exit('Error: no luck')")
    async with demo.runs(str(file)) as program:
        assert await program.ends() == 1
    assert program.output.splitlines()[-1] == "demo: the subscriber ended with exit code 1: Error: no luck"
    demo.assert_nothing_left("publish", "subscribe")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_it_is_interrupted_in_the_middle(demo: _Demo, file: Path, number: signal.Signals, code: int) -> None:
    demo.command(publish=f"print({_PUBLISHED!r}); forever()", subscribe="print('x' * 200_000); forever()")
    async with demo.runs(str(file)) as program:
        await program.says(r"^ +\d+ %")
        assert demo.files_left
        program.signal(number)
        assert await program.ends() == code
    demo.assert_nothing_left("publish", "subscribe")
