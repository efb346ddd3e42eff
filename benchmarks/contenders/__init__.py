"""The contenders, by name. A module that cannot be imported is a contender that does not take part."""

from __future__ import annotations

from importlib import import_module

from ..contender import Contender
from ..whole import WholeContender

__all__ = ["CONTENDERS", "load"]

CONTENDERS: dict[str, str] = {
    "iroh-moq": "benchmarks.contenders.iroh_moq:IrohMoq",
    "iroh-moq without driver": "benchmarks.contenders.iroh_moq:IrohMoqWithoutDriver",
    "rust": "benchmarks.contenders.rust:Rust",
    "moq-rs": "benchmarks.contenders.moq_rs:MoqRs",
    "driver": "benchmarks.contenders.driver:Driver",
    "iroh": "benchmarks.contenders.iroh:Iroh",
}
"""Where each is; in the order of the table. One that needs nothing but streams is a `streams.StreamsContender`."""


def load(name: str) -> Contender | WholeContender:
    """A contender by its name, or by ``module:class`` if it is not one of these.

    Raises:
        ImportError: something that it needs is not installed, or not built.
    """
    module, _, attribute = CONTENDERS.get(name, name).partition(":")
    made: Contender | WholeContender = getattr(import_module(module), attribute)()
    return made
