//! Error numbers, errno(3).

/// A Linux error number. Positive, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(pub u16);

/// Result of everything the kernel does on behalf of a guest.
pub type Result<T = (), E = Errno> = core::result::Result<T, E>;

macro_rules! errnos {
    ($($name:ident)*) => {
        #[expect(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(linux_raw_sys::errno::$name as u16);)*
            /// Symbolic name, e.g. `ENOENT`.
            pub fn name(self) -> &'static str {
                $(if self.0 == linux_raw_sys::errno::$name as u16 { return stringify!($name); })*
                match self {
                    Errno::ERESTARTSYS => "ERESTARTSYS",
                    Errno::ERESTARTNOINTR => "ERESTARTNOINTR",
                    Errno::ERESTARTNOHAND => "ERESTARTNOHAND",
                    Errno::ERESTART_RESTARTBLOCK => "ERESTART_RESTARTBLOCK",
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
    ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
    ELOOP ENOMSG EIDRM ENODATA ETIME EPROTO EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE
    EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT
    EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN
    ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY
    EINPROGRESS ESTALE EDQUOT ECANCELED EOWNERDEAD ENOTRECOVERABLE EBADMSG ELIBBAD
}

impl Errno {
    /// Restart the call after the handler if SA_RESTART, else EINTR. Never seen by programs.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Always restart the call.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Restart if no handler ran, else EINTR.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Restart through restart_syscall(2) if no handler ran, else EINTR.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);

    /// The value a system call returns for this error.
    pub fn to_return(self) -> u64 {
        (-(self.0 as i64)) as u64
    }
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
