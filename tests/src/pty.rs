//! Drives an interactive program through a pseudo-terminal.
