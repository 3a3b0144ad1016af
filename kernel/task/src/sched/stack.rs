//! Kernel stacks.

/// A kernel stack, or none (the boot stack is not ours).
pub(crate) struct KernelStack {}
