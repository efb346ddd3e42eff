"""The Python peer: a program that does with this package what the Rust peer does with Rust's."""
