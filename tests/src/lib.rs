//! Helpers for the tests that run a machine.
