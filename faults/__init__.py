"""The fault suite: what strangers, networks and crashes can do to a session, done on purpose.

`python -m faults` runs every part in its short form, which is part of `make test`; ``--long`` runs
the long form. Each part is a folder with one job to each module, and says what it found in a common
report (see :mod:`.report`).
"""
