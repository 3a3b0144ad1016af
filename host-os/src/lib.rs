//! Everything that touches the host except CPU and MMU: memory file, host directories, consoles, clocks, entropy.
