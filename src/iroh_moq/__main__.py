"""``python -m iroh_moq`` is the command ``iroh-moq``."""

from .cli import main

if __name__ == "__main__":
    main()
