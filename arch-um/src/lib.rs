//! The CPU and MMU: vCPU threads, traps, engines, signal frames, vDSO.
