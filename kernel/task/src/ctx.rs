//! [`Ctx`]: what a system call handler gets.

use crate::{Kernel, Process, Task};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;
use core::cell::OnceCell;
use hal::UserContext;
use mm::Mm;
use mm::aspace::MmLimits;
use sync::Held;
use vfs::file::{Caller, SignalSource};
use vfs::namei::Walk;
use vfs::{Cred, FdTable, File, FsContext};

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = -100;

/// The calling task, with what it used when a system call first asked: a task that gets other memory,
/// descriptors or places within a call goes on with a new one behind it. Also what drivers get as
/// [`Caller`]: `cx.as_any().downcast_ref::<Ctx>()`.
pub struct Ctx {
    task: &'static Task,
    mm: OnceCell<Arc<Mm>>,
    files: OnceCell<Arc<FdTable>>,
    fs: OnceCell<Arc<FsContext>>,
}

/// What `cell` holds, from now on what `get` gives.
#[inline]
fn keep<T>(cell: &OnceCell<T>, get: impl FnOnce() -> Option<T>) -> Option<&T> {
    if cell.get().is_none() {
        let _ = cell.set(get()?);
    }
    cell.get()
}

impl Ctx {
    /// For the current task.
    pub fn current() -> Ctx {
        Ctx::of(crate::current())
    }
    /// For `task`, which must be the current one.
    pub fn of(task: &'static Task) -> Ctx {
        Ctx {
            task,
            mm: OnceCell::new(),
            files: OnceCell::new(),
            fs: OnceCell::new(),
        }
    }
    /// The task layer's context behind a [`Caller`]; `None` for kernel-internal callers.
    pub fn from_caller(cx: &dyn Caller) -> Option<&Ctx> {
        cx.as_any().downcast_ref::<Ctx>()
    }
    /// The calling task.
    #[inline]
    pub fn task(&self) -> &'static Task {
        self.task
    }
    /// Its process.
    #[inline]
    pub fn process(&self) -> &'static Arc<Process> {
        &self.task.process
    }
    /// The machine.
    #[inline]
    pub fn kernel(&self) -> &'static Kernel {
        self.task.kernel
    }
    /// Credentials.
    pub fn cred(&self) -> Arc<Cred> {
        self.task.cred()
    }
    /// Address space.
    #[inline]
    pub fn mm(&self) -> &Arc<Mm> {
        match self.try_mm() {
            Some(mm) => mm,
            None => panic!("system call of a kernel task"),
        }
    }
    /// Address space, if there is one.
    #[inline]
    pub(crate) fn try_mm(&self) -> Option<&Arc<Mm>> {
        keep(&self.mm, || self.task.mm())
    }
    /// Descriptor table.
    #[inline]
    pub fn files(&self) -> &Arc<FdTable> {
        match keep(&self.files, || self.task.files()) {
            Some(f) => f,
            None => panic!("descriptors of a dead task"),
        }
    }
    /// Root, working directory, umask.
    #[inline]
    pub fn fs(&self) -> &Arc<FsContext> {
        match keep(&self.fs, || self.task.fs()) {
            Some(f) => f,
            None => panic!("file context of a dead task"),
        }
    }
    /// The file behind a descriptor ([`Errno::EBADF`] for O_PATH ones too).
    #[inline]
    pub fn file(&self, fd: i32) -> Result<Arc<File>> {
        self.files().get_io(fd)
    }
    /// As [`Ctx::file`], for calls that close no descriptor. While no other task uses the table, the reference need not be counted.
    #[inline]
    pub fn hold(&self, fd: i32) -> Result<Held<File>> {
        let files = self.files();
        let shared = files.is_shared();
        files.with_io(fd, |f| {
            if shared {
                return Held::counted(f.clone());
            }
            // SAFETY: only a task that uses a table takes files out of it, or lets others use it. The one
            // that does is in this call, and does neither.
            #[expect(unsafe_code)]
            unsafe {
                Held::uncounted(f)
            }
        })
    }
    /// Installs a file at the lowest free descriptor.
    pub fn install(&self, file: Arc<File>, cloexec: bool) -> Result<i32> {
        let limit = self.process().rlimit(abi::raw::RLIMIT_NOFILE).cur;
        self.files().install(file, 0, limit, cloexec)
    }
    /// Limits for mm calls.
    pub fn mm_limits(&self) -> MmLimits {
        self.process().mm_limits(self.task)
    }
    /// A walk that starts at `dirfd` (`AT_FDCWD`: the working directory).
    /// Use [`Ctx::walk_at`] when the path is at hand.
    pub fn walk(&self, dirfd: i32) -> Result<Walk<'_>> {
        let base = if dirfd == AT_FDCWD {
            None
        } else {
            let file = self.files().get(dirfd)?;
            Some(file.path.clone().ok_or(Errno::ENOTDIR)?)
        };
        Ok(Walk {
            cx: self,
            fs: self.fs(),
            ns: self.kernel().mounts(),
            base,
        })
    }
    /// As [`Ctx::walk`]; `dirfd` is not looked at if `path` is absolute.
    pub fn walk_at(&self, dirfd: i32, path: &[u8]) -> Result<Walk<'_>> {
        self.walk(if path.first() == Some(&b'/') {
            AT_FDCWD
        } else {
            dirfd
        })
    }
    /// Reads a path argument: [`Errno::EFAULT`], [`Errno::ENAMETOOLONG`].
    pub fn path_arg(&self, addr: u64) -> Result<alloc::vec::Vec<u8>> {
        self.mm().read_cstr(addr, abi::io::PATH_MAX)
    }
    /// Access to the user registers of the calling task.
    pub fn with_regs<T>(&self, f: impl FnOnce(&mut UserContext) -> T) -> T {
        self.task.with_regs(f)
    }
    /// The registers have been replaced (exec, sigreturn): the result of this
    /// system call is not written to them.
    pub fn keep_regs(&self) {
        self.task.set_keep_regs();
    }
    /// [`Errno::EPERM`] unless the caller has capability `n` ([`vfs::cred::cap`]).
    pub fn require(&self, n: u32) -> Result {
        if self.task.cred().capable(n) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

impl Caller for Ctx {
    fn cred(&self) -> Arc<Cred> {
        self.task.cred()
    }
    fn mm(&self) -> Option<Arc<Mm>> {
        self.try_mm().cloned()
    }
    fn pid(&self) -> i32 {
        self.task.process.pid()
    }
    fn realtime_ns(&self) -> i64 {
        self.kernel().realtime() as i64
    }
    fn coarse_realtime_ns(&self) -> i64 {
        self.kernel().platform.clock().coarse_realtime_ns() as i64
    }
    fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        Some(Arc::new(crate::signal::TaskSignalSource::new(
            self.task.arc(),
        )))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn devices(&self) -> Option<&vfs::device::DeviceTable> {
        Some(&self.kernel().devices)
    }
}
