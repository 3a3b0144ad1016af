//! Devices: clock, entropy, consoles, host streams, host directories.
//!
//! Host resources are named by small indices into tables of `host-os`, never
//! by host descriptors; host-os knows how to reopen each.

use abi::Errno;
use alloc::vec::Vec;

/// Time. All in nanoseconds. The machine's monotonic clock starts near 0 at boot.
pub trait Clock: Send + Sync {
    /// `CLOCK_MONOTONIC` of the machine.
    fn monotonic_ns(&self) -> u64;
    /// `CLOCK_REALTIME`.
    fn realtime_ns(&self) -> u64;
    /// [`Clock::realtime_ns`] as it was at most some milliseconds ago; cheaper.
    fn coarse_realtime_ns(&self) -> u64 {
        self.realtime_ns()
    }
    /// Adds to `CLOCK_REALTIME` from now on (`clock_settime`, the guest's own wall clock).
    fn adjust_realtime(&self, delta_ns: i64);
}

/// Random numbers from the host.
pub trait Entropy: Send + Sync {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]);
}

/// A terminal of the host that the machine owns, in raw mode: bytes in, bytes out.
pub trait Console: Send + Sync {
    /// Takes what has been typed; 0 = nothing now. [`Errno::EIO`]: the terminal hung up.
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno>;
    /// Writes what fits without waiting; 0 = nothing now. Only after 0 does a
    /// device event follow when there is room.
    fn write(&self, buf: &[u8]) -> Result<usize, Errno>;
    /// Rows, columns, x pixels, y pixels.
    fn window_size(&self) -> [u16; 4];
    /// The terminal's settings at the start as `struct termios` (36 bytes of TCGETS), if known.
    fn initial_termios(&self) -> Option<[u8; 36]>;
    /// A program wants to read the terminal or has changed its settings. Only
    /// needed if stdin is not the terminal (`a | less`): the host terminal is
    /// then left alone until this is called. Cheap to call again.
    fn claim_input(&self) {}
}

/// What an inherited host stream (stdin, stdout, stderr) is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// The console's terminal: use the [`Console`].
    Terminal,
    /// A pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A regular file or block device (seekable).
    File,
    /// A character device such as /dev/null.
    CharDev,
    /// Closed.
    None,
}

/// The host streams a machine was started with: index 0, 1, 2.
pub trait Streams: Send + Sync {
    /// What stream `i` is.
    fn kind(&self, i: u32) -> StreamKind;
    /// Its `fstat` result.
    fn stat(&self, i: u32) -> Result<HostStat, Errno>;
    /// Whether it is open for reading and writing, and O_APPEND.
    fn access(&self, i: u32) -> (bool, bool, bool);
    /// Reads without waiting. [`Errno::EAGAIN`]: nothing now; a device event
    /// ([`Event::Stream`]) follows after [`Streams::watch`]. `offset`: pread on a File.
    fn read(&self, i: u32, buf: &mut [u8], offset: Option<u64>) -> Result<usize, Errno>;
    /// Writes without waiting. [`Errno::EAGAIN`], [`Errno::EPIPE`].
    fn write(&self, i: u32, buf: &[u8], offset: Option<u64>) -> Result<usize, Errno>;
    /// (readable, writable, hung up) now.
    fn ready(&self, i: u32) -> (bool, bool, bool);
    /// Asks for one [`Event::Stream`] when `i` becomes readable / writable.
    fn watch(&self, i: u32, read: bool, write: bool);
    /// lseek on a File.
    fn seek(&self, i: u32, offset: i64, whence: u32) -> Result<u64, Errno>;
    /// ftruncate on a File that is open for writing (`> /dev/stdout`).
    fn truncate(&self, _i: u32, _size: u64) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
}

/// A device event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The console has input.
    ConsoleInput,
    /// The console takes output again.
    ConsoleOutput,
    /// The console's window size changed.
    ConsoleResize,
    /// The console hung up.
    ConsoleHangup,
    /// Stream `0..3` is ready.
    Stream(u32),
    /// The host asks the machine to end (SIGTERM to the kernel process): pass signal on to the main program.
    HostSignal(i32),
}

/// Queue of device events. They raise [`crate::cpu::IRQ_DEVICE`] on vCPU 0.
pub trait Devices: Send + Sync {
    /// Moves pending events to `out`.
    fn take_events(&self, out: &mut Vec<Event>);
}

/// `stat` of a host file.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct HostStat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blocks: u64,
    pub atime_ns: i64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

/// One entry of a host directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct HostDirEntry {
    pub name: Vec<u8>,
    pub ino: u64,
    /// `DT_*`.
    pub kind: u8,
}

/// An open host file, an index into host-os's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct HostFile(pub u32);

/// A host directory tree, for reading. Paths are relative to its root, without
/// a leading slash; the empty path is the root itself. Symbolic links are never
/// followed and the tree is never left. All errors are the host's errno.
pub trait HostDir: Send + Sync {
    /// `lstat`.
    fn stat(&self, path: &[u8]) -> Result<HostStat, Errno>;
    /// All entries but `.` and `..`.
    fn read_dir(&self, path: &[u8]) -> Result<Vec<HostDirEntry>, Errno>;
    /// `readlink`.
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno>;
    /// Opens a regular file for reading (`write`: for writing too, on trees that allow it). host-os may close and reopen it behind the index.
    fn open(&self, path: &[u8], write: bool) -> Result<HostFile, Errno>;
    /// `pread`: fills as much of `buf` as the file has.
    fn read(&self, file: HostFile, buf: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// `fstat`.
    fn stat_file(&self, file: HostFile) -> Result<HostStat, Errno>;
    /// Releases the index.
    fn close(&self, file: HostFile);
    /// `statfs`: (blocks of 4096 bytes, free, available, files, files free).
    fn statfs(&self) -> Result<[u64; 5], Errno>;
    /// Extended attribute; [`Errno::ENODATA`] if absent.
    fn get_xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno>;
    /// Names of extended attributes, NUL-terminated.
    fn list_xattr(&self, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// `pwrite`, on writable trees; else [`Errno::EROFS`] like all below.
    fn write(&self, _file: HostFile, _buf: &[u8], _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EROFS)
    }
    /// `ftruncate`.
    fn truncate(&self, _path: &[u8], _size: u64) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `mknod`/`mkdir` by the type in `mode`; the file must not exist.
    fn create(&self, _path: &[u8], _mode: u32) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `symlink`.
    fn symlink(&self, _path: &[u8], _target: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `link`.
    fn link(&self, _old: &[u8], _new: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `unlink` or `rmdir`.
    fn remove(&self, _path: &[u8], _dir: bool) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `renameat2` within the tree.
    fn rename(&self, _old: &[u8], _new: &[u8], _flags: u32) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `chmod`, `chown` (−1 keeps), `utimens` (ns since 1970) as far as given.
    fn set_attr(
        &self,
        _path: &[u8],
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _atime_ns: Option<i64>,
        _mtime_ns: Option<i64>,
    ) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    /// `fsync` of a file.
    fn fsync(&self, _file: HostFile) -> Result<(), Errno> {
        Ok(())
    }
}
