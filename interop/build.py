"""Builds the Rust peer, outside of the checkout, so that the next time takes seconds.

    python -m interop.build

Ends with code 3, and says so loudly, where there is no cargo.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .harness.kinds import rust_binary

_PEER = Path(__file__).parent / "peer"
NO_CARGO = 3
"""The exit code where there is no cargo."""


def main() -> int:
    """Builds it; gives the exit code."""
    cargo = shutil.which("cargo")
    if cargo is None:
        line = "!" * 78
        print(
            f"{line}\nThe interoperability with Rust is NOT tested: there is no cargo.\n"
            f"Install it (apt install cargo, or https://rustup.rs), and run: make interop\n{line}",
            file=sys.stderr,
        )
        return NO_CARGO
    target = rust_binary().parents[1]
    started = time.monotonic()
    print(f"Building the Rust peer in {target} (minutes the first time)", flush=True)
    command = [cargo, "build", "--release", "--locked", "--quiet", "--manifest-path", str(_PEER / "Cargo.toml")]
    built = subprocess.run(command, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=False)
    if built.returncode == 0:
        print(f"Built in {time.monotonic() - started:.0f} s", flush=True)
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
