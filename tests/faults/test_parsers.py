"""The part `parsers`, with faults planted for it to find."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from faults.parsers import feed, part
from faults.parsers.corpus import FOLDER, read_corpus
from faults.parsers.mutate import Mutator, split
from faults.parsers.targets import Outcome, Target, targets
from faults.run import Run
from iroh_moq.lite import decoders


def run_on(target: Target, folder: Path, seed: int = 1, inputs: int = 3000) -> Run:
    run = Run("parsers", seed=seed, folder=folder)
    part.run(run, [target], inputs)
    return run


def nothing(pieces: list[bytes]) -> Outcome:
    return Outcome((len(b"".join(pieces)),), None, "")


def details(run: Run, claim: str) -> list[str]:
    return run.claims[claim].details


class TestPlanted:
    def test_nothing_wrong_is_nothing_found(self, tmp_path: Path) -> None:
        run = run_on(Target("GroupDecoder", nothing, split=True), tmp_path)
        assert not run.failed
        assert run.figures["inputs"] >= 3000

    def test_an_exception(self, tmp_path: Path) -> None:
        def feed(pieces: list[bytes]) -> Outcome:
            data = b"".join(pieces)
            if b"\xff\xff" in data:
                raise IndexError("planted")
            return Outcome((), None, "")

        run = run_on(Target("GroupDecoder", feed, split=True), tmp_path)
        assert run.failed
        found = details(run, "no exception escapes a parser")
        assert "planted" in found[0]
        assert "seed 1" in found[0]
        # The same seed finds the same inputs.
        again = run_on(Target("GroupDecoder", feed, split=True), tmp_path)
        assert details(again, "no exception escapes a parser") == found

    def test_an_outcome_that_depends_on_the_pieces(self, tmp_path: Path) -> None:
        def feed(pieces: list[bytes]) -> Outcome:
            return Outcome((max(map(len, pieces), default=0) > 30,), None, "")

        run = run_on(Target("GroupDecoder", feed, split=True), tmp_path)
        assert details(run, "the outcome is the same however the bytes are split")

    def test_memory_that_is_kept(self, tmp_path: Path) -> None:
        kept: list[object] = []

        def feed(pieces: list[bytes]) -> Outcome:
            kept.extend(object() for _ in range(4))
            return Outcome((), None, "")

        run = run_on(Target("GroupDecoder", feed, split=True), tmp_path)
        assert details(run, "memory is flat")

    def test_an_input_that_never_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "_HUNG", 1)
        hung: list[bytes] = []

        def hang(pieces: list[bytes]) -> Outcome:
            data = b"".join(pieces)
            while not hung and data.startswith(b"\x00\x02\x02"):
                pass
            return Outcome((), None, "")

        def once(pieces: list[bytes]) -> Outcome:
            try:
                return hang(pieces)
            except feed.Hung:
                hung.append(b"")
                raise

        target = Target("no corpus", once, split=True)
        feeder = feed.Feeder(Run("parsers", folder=tmp_path), target)
        feeder._corpus.append(b"\x00\x02\x02\x00")
        feeder.batch(0)
        assert details(feeder._run, "every input comes to an end")


class TestTargets:
    def test_every_decoder_is_one(self) -> None:
        names = {target.corpus for target in targets()}
        assert {name for name in decoders.__all__ if name.endswith("Decoder")} <= names

    @pytest.mark.parametrize("target", targets(), ids=lambda target: str(target.name))
    def test_each_has_a_corpus_that_it_takes(self, target: Target) -> None:
        corpus = read_corpus(target.corpus)
        assert any(corpus)
        for data in corpus:
            target.feed([data])

    def test_each_corpus_has_a_target(self) -> None:
        names = {target.corpus.replace(" ", "-") for target in targets()}
        assert {path.stem for path in FOLDER.glob("*.txt")} == names


class TestMutator:
    def test_the_same_chance_makes_the_same(self) -> None:
        made = [
            [Mutator(random.Random(5), [b"honest", b"more"]).make() for _ in range(3)][0:3],
            [Mutator(random.Random(5), [b"honest", b"more"]).make() for _ in range(3)][0:3],
        ]
        assert made[0] == made[1]

    def test_pieces_are_the_whole(self) -> None:
        chance = random.Random(1)
        mutator = Mutator(chance, read_corpus("GroupDecoder"))
        for _ in range(500):
            data = mutator.make()
            pieces = split(chance, data)
            assert b"".join(pieces) == data
            assert all(pieces)
