//! Open files.
//!
//! A [`File`] is an *open file description* (open(2)): it may be shared by
//! several descriptors and processes. What it does is its [`FileOps`].

use crate::cred::Cred;
use crate::inode::{DirEmit, InodeRef};
use crate::notify::event;
use crate::poll::{PollEvents, PollTable};
use crate::state::WriteAccess;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use mm::PageCache;
use mm::io::{Sink, Source};
use sync::Mutex;

bitflags::bitflags! {
    /// Flags of open(2) and fcntl(2) F_SETFL, Linux x86-64 values. The low two bits are the access mode.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        /// `O_WRONLY`
        const WRONLY = 0o1;
        /// `O_RDWR`
        const RDWR = 0o2;
        /// `O_CREAT`
        const CREAT = 0o100;
        /// `O_EXCL`
        const EXCL = 0o200;
        /// `O_NOCTTY`
        const NOCTTY = 0o400;
        /// `O_TRUNC`
        const TRUNC = 0o1000;
        /// `O_APPEND`
        const APPEND = 0o2000;
        /// `O_NONBLOCK`
        const NONBLOCK = 0o4000;
        /// `O_DSYNC`
        const DSYNC = 0o10000;
        /// `O_ASYNC`
        const ASYNC = 0o20000;
        /// `O_DIRECT`
        const DIRECT = 0o40000;
        /// `O_LARGEFILE`
        const LARGEFILE = 0o100000;
        /// `O_DIRECTORY`
        const DIRECTORY = 0o200000;
        /// `O_NOFOLLOW`
        const NOFOLLOW = 0o400000;
        /// `O_NOATIME`
        const NOATIME = 0o1000000;
        /// `O_CLOEXEC`
        const CLOEXEC = 0o2000000;
        /// `O_SYNC`
        const SYNC = 0o4000000;
        /// `O_PATH`
        const PATH = 0o10000000;
        /// `O_TMPFILE`
        const TMPFILE = 0o20000000;
        const _ = !0;
    }
}

impl OpenFlags {
    /// Open for reading.
    pub fn readable(self) -> bool {
        matches!(self.bits() & 3, 0 | 2) && !self.contains(OpenFlags::PATH)
    }
    /// Open for writing.
    pub fn writable(self) -> bool {
        matches!(self.bits() & 3, 1 | 2) && !self.contains(OpenFlags::PATH)
    }
}

/// Who calls a file operation: what drivers may ask about the current task.
/// Implemented by `task::Ctx`.
pub trait Caller {
    /// Credentials.
    fn cred(&self) -> Arc<Cred>;
    /// Memory of the caller (ioctl arguments). `None` for kernel-internal calls.
    fn mm(&self) -> Option<Arc<mm::Mm>>;
    /// Process (thread-group) id in the machine.
    fn pid(&self) -> i32;
    /// Real-time clock, ns since 1970.
    fn realtime_ns(&self) -> i64;
    /// As it was at most some milliseconds ago; cheaper.
    fn coarse_realtime_ns(&self) -> i64 {
        self.realtime_ns()
    }
    /// Pending signals of the calling task; `None` for kernel-internal calls.
    fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        None
    }
    /// The task layer's context, for drivers above it (tty).
    fn as_any(&self) -> &dyn Any;
    /// Drivers of the machine. `None`: there are none (unit tests).
    fn devices(&self) -> Option<&crate::device::DeviceTable> {
        None
    }
}

bitflags::bitflags! {
    /// What does not change while a file is open.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Traits: u8 {
        /// There are offsets; else lseek(2) and pread(2) give [`Errno::ESPIPE`].
        const SEEKABLE = 1;
        /// read(2) and write(2) move the file position on, so that they wait for each other. Without offsets, and in
        /// memory devices (null(4)), they do not.
        const MOVES = 2;
        /// Reads count as accesses (atime). On Linux those of memory devices do not.
        const NOTES_READS = 4;
        /// Of pipes, sockets, terminals.
        const STREAM = Self::NOTES_READS.bits();
        /// Of what has a position: files, directories.
        const FILE = Self::SEEKABLE.bits() | Self::MOVES.bits() | Self::NOTES_READS.bits();
    }
}

/// What an open file does. One object per open, or shared, as the driver likes.
/// Methods may sleep; blocking ones obey `f.nonblock()` with [`Errno::EAGAIN`]
/// and end with [`Errno::ERESTARTSYS`] when a signal comes.
pub trait FileOps: Send + Sync {
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
    /// Reads at `pos` (ignored by streams).
    fn read(&self, _f: &File, _cx: &dyn Caller, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Writes at `pos` (ignored by streams). O_APPEND has been applied to `pos` by the caller under the inode's write lock when
    /// [`Traits::SEEKABLE`]; the file system raises the size.
    fn write(
        &self,
        _f: &File,
        _cx: &dyn Caller,
        _pos: u64,
        _src: &mut dyn Source,
    ) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// What the file is like, the same as long as it is open. Default: a stream.
    fn traits(&self) -> Traits {
        Traits::STREAM
    }
    /// lseek(2) other than the generic SET/CUR/END by size (directories, SEEK_DATA/HOLE). `None` = use the generic one.
    fn seek(&self, _f: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        None
    }
    /// Directory: emits entries from position `pos` on, `.` and `..` included; positions are the file system's own cookies, 0 = start.
    fn read_dir(&self, _f: &File, _pos: u64, _emit: &mut DirEmit<'_>) -> Result {
        Err(Errno::ENOTDIR)
    }
    /// Readiness now; with a table, also registers for changes. Default: always ready.
    fn poll(&self, f: &File, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        let _ = f;
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    /// Whether readiness means anything; else epoll_ctl(2) gives EPERM.
    fn pollable(&self) -> bool {
        true
    }
    /// ioctl(2). FIONBIO, FIOCLEX and FIONREAD on regular files are handled before.
    fn ioctl(&self, _f: &File, _cx: &dyn Caller, _cmd: u32, _arg: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }
    /// Page cache to map for mmap(2). [`Errno::ENODEV`] if it cannot be mapped. For /dev/zero: a fresh anonymous cache when `shared`.
    fn mmap(&self, _f: &File, _shared: bool) -> Result<MmapBacking> {
        Err(Errno::ENODEV)
    }
    /// fsync(2), fdatasync(2).
    fn fsync(&self, _f: &File, _data_only: bool) -> Result {
        Err(Errno::EINVAL)
    }
    /// fallocate(2).
    fn fallocate(&self, _f: &File, _mode: u32, _offset: u64, _len: u64) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// A descriptor of this file was closed by a process (close(2)); locks are dropped by the caller.
    fn flush(&self, _f: &File) {}
    /// The last reference to the description is gone.
    fn release(&self, _f: &File) {}
    /// O_NONBLOCK or O_ASYNC changed.
    fn set_flags(&self, _f: &File, _flags: OpenFlags) -> Result {
        Ok(())
    }
    /// Text for /proc/PID/fdinfo behind the standard lines.
    fn fdinfo(&self, _f: &File, _out: &mut crate::text::Text) -> core::fmt::Result {
        Ok(())
    }
    /// Name for files without a path, as in /proc/PID/fd: `pipe:[123]`, `anon_inode:[eventfd]`.
    fn anon_name(&self) -> Option<alloc::vec::Vec<u8>> {
        None
    }
}

/// What a mapping of a file shows.
pub enum MmapBacking {
    /// The pages of this cache.
    Cache(Arc<PageCache>),
    /// Private zero pages (/dev/zero, MAP_PRIVATE).
    Anon,
}

/// Kinds of [`Owner`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs)]
pub enum OwnerKind {
    Thread,
    #[default]
    Process,
    Group,
}

/// Who gets signals when a file is ready, fcntl(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// What `id` names.
    pub kind: OwnerKind,
    /// F_SETOWN; 0: nobody.
    pub id: i32,
    /// F_SETSIG; 0: SIGIO without information.
    pub signal: i32,
    /// User of whoever set it.
    pub uid: u32,
    /// Effective user of whoever set it.
    pub euid: u32,
}

/// An open file description.
pub struct File {
    /// Behaviour.
    pub ops: Arc<dyn FileOps>,
    /// Inode: real, or an anonymous one for pipes, sockets and the like.
    pub inode: InodeRef,
    /// Where it was opened (mount and dentry); `None` for anonymous files.
    pub path: Option<crate::path::Path>,
    flags: AtomicU32,
    traits: Traits,
    /// File position. Held across read and write of files with [`Traits::MOVES`].
    pub pos: Mutex<u64>,
    /// Credentials of the opener.
    pub cred: Arc<Cred>,
    /// Who gets signals when it is ready.
    pub owner: sync::SpinLock<Owner, { sync::level::INODE }>,
    /// What sends them while O_ASYNC is set; the task layer's.
    pub signals: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    /// By address. There may be very many.
    hooks: sync::SpinLock<BTreeMap<usize, Weak<dyn ReleaseHook>>, { sync::level::INODE }>,
    /// The right to write, or to run, the file.
    access: Option<WriteAccess>,
}

/// Told when an open file description ends (epoll drops its interest then).
pub trait ReleaseHook: Send + Sync {
    /// `file`: address of the description, for comparison only.
    fn released(&self, file: *const File);
}

/// Pending signals of a task, for signalfd(2). Implemented by the task layer.
pub trait SignalSource: Send + Sync {
    /// Dequeues one pending signal (of the task or its process) that is in `mask`.
    fn take(&self, mask: abi::SigSet) -> Option<abi::SigInfo>;
    /// Pending signals of the task and its process.
    fn pending(&self) -> abi::SigSet;
    /// Woken whenever a signal is queued to the process or one of its tasks.
    fn queue(&self) -> Arc<dyn crate::poll::QueueOwner>;
}

impl File {
    /// A new description.
    pub fn new(
        ops: Arc<dyn FileOps>,
        inode: InodeRef,
        path: Option<crate::path::Path>,
        flags: OpenFlags,
        cred: Arc<Cred>,
    ) -> Arc<File> {
        File::with_access(ops, inode, path, flags, cred, None)
    }
    /// As [`File::new`], for a file that is written or run.
    pub(crate) fn with_access(
        ops: Arc<dyn FileOps>,
        inode: InodeRef,
        path: Option<crate::path::Path>,
        flags: OpenFlags,
        cred: Arc<Cred>,
        access: Option<WriteAccess>,
    ) -> Arc<File> {
        let keep = OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::NOCTTY
            | OpenFlags::TRUNC
            | OpenFlags::CLOEXEC;
        Arc::new(File {
            traits: ops.traits(),
            ops,
            inode,
            path,
            flags: AtomicU32::new(flags.difference(keep).bits()),
            pos: Mutex::new(0),
            cred,
            owner: sync::SpinLock::new(Owner::default()),
            signals: Mutex::new(None),
            hooks: sync::SpinLock::new(BTreeMap::new()),
            access,
        })
    }
    /// Has `hook` called when the last reference to the description goes; once, however often it is added.
    pub fn add_release_hook(&self, hook: Weak<dyn ReleaseHook>) {
        let mut hooks = self.hooks.lock();
        hooks.insert(hook.as_ptr().addr(), hook);
        // Now and then those that are gone are taken out.
        if hooks.len().is_power_of_two() {
            hooks.retain(|_, h| h.strong_count() > 0);
        }
    }
    /// Current flags.
    #[inline]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    /// Whether there are offsets.
    #[inline]
    pub fn seekable(&self) -> bool {
        self.traits.contains(Traits::SEEKABLE)
    }
    /// Whether read(2) and write(2) move the file position on.
    #[inline]
    pub fn moves(&self) -> bool {
        self.traits.contains(Traits::MOVES)
    }
    /// Whether reads count as accesses.
    pub(crate) fn notes_reads(&self) -> bool {
        self.traits.contains(Traits::NOTES_READS)
    }
    /// Replaces the flags that F_SETFL may change.
    pub fn set_flags(&self, new: OpenFlags) -> Result {
        let may = OpenFlags::APPEND
            | OpenFlags::NONBLOCK
            | OpenFlags::ASYNC
            | OpenFlags::DIRECT
            | OpenFlags::NOATIME;
        let old = self.flags();
        let flags = old.difference(may) | (new & may);
        self.ops.set_flags(self, flags)?;
        self.flags.store(flags.bits(), Ordering::Relaxed);
        Ok(())
    }
    /// Whether operations must not wait.
    pub fn nonblock(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }
    /// Readiness.
    pub fn poll(&self, table: Option<&mut PollTable<'_>>) -> PollEvents {
        self.ops.poll(self, table)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let hooks = core::mem::take(self.hooks.get_mut());
        for hook in hooks.values().filter_map(Weak::upgrade) {
            hook.released(self);
        }
        crate::locks::release(self);
        let ops = self.ops.clone();
        ops.release(self);
        drop(self.access.take());
        if !self.flags().contains(OpenFlags::PATH) {
            self.notify(if self.flags().writable() {
                event::CLOSE_WRITE
            } else {
                event::CLOSE_NOWRITE
            });
        }
    }
}
