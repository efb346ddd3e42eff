"""The optional native parts; all else is in pyproject.toml."""

import sys

from setuptools import Extension, setup

if sys.platform == "win32":
    # It wakes the loop through a descriptor, which loops cannot wait for there.
    extensions = []
else:
    # Optional: without a compiler the package installs all the same, and runs on the iroh package's own calls.
    extensions = [Extension("iroh_moq.transport._driver", ["src/iroh_moq/transport/_driver.pyx"], optional=True)]
extensions.append(Extension("iroh_moq.lite._frames", ["src/iroh_moq/lite/_frames.pyx"], optional=True))

setup(ext_modules=extensions)
