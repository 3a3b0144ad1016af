//! x86-64.

/// The instruction set. Implements [`hal::Arch`].
pub struct X86_64 {
    _private: (),
}

impl X86_64 {
    /// Looks at this host's CPU. Lives as long as the process.
    pub fn detect() -> &'static X86_64 {
        Box::leak(Box::new(X86_64 { _private: () }))
    }
}
