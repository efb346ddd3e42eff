"""The interoperability suite: this package and its Rust counterpart, in every pairing, over real connections."""
