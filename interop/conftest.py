"""How the cases are run: over which versions and pairs, in which processes, and where the outcomes go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .harness.about import about
from .harness.kinds import Kind, rust_binary
from .harness.link import Link, Party
from .harness.matrix import Matrix
from .harness.pairs import Pair, all_pairs, short_pairs
from .harness.pool import Pool
from .harness.versions import offered

_MATRIX = pytest.StashKey[Matrix]()
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("interop")
    group.addoption("--versions", help="protocol versions, comma-separated (default: all that the package offers)")
    group.addoption("--short", action="store_true", help="the core only: a few cases of each sort, four pairs")
    group.addoption("--matrix", type=Path, metavar="DIR", help="write outcomes there; with --last-failed, mend them")


def pytest_configure(config: pytest.Config) -> None:
    """Sets the matrix up."""
    config.addinivalue_line("markers", "core: part of the short form")
    config.addinivalue_line("markers", "among(*kinds): only pairs in which these kinds take part")
    config.addinivalue_line("markers", "to_python: only pairs whose subscriber is this package")
    config.addinivalue_line("markers", "from_python: only pairs whose publisher is this package")
    config.addinivalue_line("markers", "subscriber_dials: only pairs in which the subscriber dials")
    config.addinivalue_line("markers", "before(number): only versions before moq-lite-0<number>")
    config.addinivalue_line("markers", "since(number): only versions from moq-lite-0<number> on")
    written: Path | None = config.getoption("--matrix")
    if written is not None and config.getoption("--last-failed"):
        config.stash[_MATRIX] = Matrix.without_failures(written, about())
    else:
        config.stash[_MATRIX] = Matrix(about=about())


def _versions(config: pytest.Config) -> list[str]:
    wanted = config.getoption("--versions")
    return wanted.split(",") if wanted else offered()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each case over all versions and pairs that it is for."""
    config = metafunc.config
    if "version" in metafunc.fixturenames:
        versions = _versions(config)
        if marker := metafunc.definition.get_closest_marker("since"):
            versions = [version for version in versions if int(version[-2:]) >= marker.args[0]]
        if marker := metafunc.definition.get_closest_marker("before"):
            versions = [version for version in versions if int(version[-2:]) < marker.args[0]]
        metafunc.parametrize("version", versions, scope="session")
    if "pair" in metafunc.fixturenames:
        pairs = short_pairs() if config.getoption("--short") else all_pairs()
        if marker := metafunc.definition.get_closest_marker("among"):
            pairs = [pair for pair in pairs if pair.kinds & {Kind(name) for name in marker.args}]
        if metafunc.definition.get_closest_marker("to_python"):
            pairs = [pair for pair in pairs if not pair.subscriber.is_rust]
        if metafunc.definition.get_closest_marker("from_python"):
            pairs = [pair for pair in pairs if not pair.publisher.is_rust]
        if metafunc.definition.get_closest_marker("subscriber_dials"):
            pairs = [pair for pair in pairs if not pair.publisher_dials]
        metafunc.parametrize("pair", pairs, ids=[pair.name for pair in pairs], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is not asked for; all that is left shares one loop, as the peers live longer than a case."""
    if config.getoption("--short"):
        left = [item for item in items if item.get_closest_marker("core")]
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = left
    # Cases for which none of the versions asked for will do.
    pointless = [
        item for item in items if any("empty parameter set" in str(mark.kwargs) for mark in item.iter_markers("skip"))
    ]
    config.hook.pytest_deselected(items=pointless)
    items[:] = [item for item in items if item not in pointless]
    for item in items:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Puts the outcome into the matrix."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    if report.when == "call" or report.outcome != "passed":
        _record(item, report)
    return report


def _record(item: pytest.Item, report: pytest.TestReport) -> None:
    callspec = getattr(item, "callspec", None)
    if callspec is None or "version" not in callspec.params:
        return
    parameters: dict[str, Any] = dict(callspec.params)
    version = parameters.pop("version")
    pair = parameters.pop("pair", None)
    column = pair.name if isinstance(pair, Pair) else str(parameters.pop("column", "all"))
    case = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
    if parameters:
        case += " (" + ", ".join(map(_words, parameters.values())) + ")"
    topic = Path(str(item.path)).stem.removeprefix("test_")
    matrix = item.config.stash[_MATRIX]
    matrix.record(version, f"{topic}: {case}", column, report.outcome, report.duration)


def _words(parameter: object) -> str:
    if isinstance(parameter, tuple):
        return " and ".join(map(_words, parameter))
    return str(parameter.value if isinstance(parameter, Kind) else parameter)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the matrix."""
    directory: Path | None = session.config.getoption("--matrix")
    if directory is not None:
        session.config.stash[_MATRIX].write(directory)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how it went, and where the matrix is."""
    matrix = config.stash[_MATRIX]
    for version in matrix.outcomes:
        terminalreporter.write_line(f"{version}: {matrix.summary(version)}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool() -> AsyncIterator[Pool]:
    """The running peers."""
    if not rust_binary().exists():
        pytest.exit(f"The Rust peer is not built: {rust_binary()} is missing. Run: make interop", returncode=2)
    pool = Pool()
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def peers(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Pool]:
    """The same, thrown away after a case that failed, for nobody knows what it left behind."""
    yield pool
    if request.node.stash.get(_FAILED, False):
        await pool.discard()


@pytest_asyncio.fixture(loop_scope="session")
async def duo(peers: Pool, pair: Pair, version: str) -> Link:
    """A publisher and a subscriber, bound, with no session between them yet."""
    publisher = Party(pair.publisher, await peers.get(pair.publisher, "publisher"), version)
    subscriber = Party(pair.subscriber, await peers.get(pair.subscriber, "subscriber"), version)
    await publisher.bind()
    await subscriber.bind()
    return Link(version, publisher, subscriber, pair.publisher_dials)


@pytest_asyncio.fixture(loop_scope="session")
async def link(duo: Link) -> Link:
    """The same with a session."""
    await duo.connect()
    return duo
