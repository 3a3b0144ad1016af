//! Guests that attack the stub.
pub const TESTS: &[(&str, fn())] = &[];
