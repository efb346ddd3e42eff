"""Benchmarks: this package and its rivals at the same work, side by side; `make bench` runs them."""
