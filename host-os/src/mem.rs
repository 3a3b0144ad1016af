//! The memory file: one file that is all of the machine's physical memory.
//!
//! Its first frames belong to the machine itself:
//!
//! | frames | content |
//! |---|---|
//! | 0 | [`Header`]: what a debugger needs to make sense of the file |
//! | 1 | block of vCPU 0 |
//! | `KSTACK_SIZE` / 4096 … twice that | boot stack of vCPU 0 |

#![expect(unsafe_code, reason = "maps and fills the memory file")]

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::PAGE_SIZE;
use hal::cpu::KSTACK_SIZE;
use hal::mem::{MEM_BASE, MEM_MAX, Pfn, PhysMem};
use host_sys::{Errno, fd, file, mem};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// First bytes of every memory file.
pub const MAGIC: [u8; 8] = *b"LODGERMF";
/// Address of vCPU 0's block.
pub const CPU0_ADDR: usize = MEM_BASE + PAGE_SIZE;
/// Address of the boot stack.
pub const BOOT_STACK_ADDR: usize = MEM_BASE + KSTACK_SIZE;
/// Least size of a memory file in bytes: what a machine needs to boot and to run a small program.
pub const MIN_SIZE: u64 = 32 << 20;

/// Contents of frame 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Format of this header: 1.
    pub version: u32,
    /// Bytes a frame.
    pub page_size: u32,
    /// Frames in the file.
    pub frames: u64,
    /// Address at which the file is mapped.
    pub base: u64,
    /// Address of vCPU 0's block.
    pub cpu0: u64,
    /// Address of the boot stack.
    pub boot_stack: u64,
    /// Bytes of a kernel stack.
    pub kstack_size: u64,
    /// Address of a function of the kernel's image: tells images at other addresses apart.
    pub text: u64,
    /// Host process that ran the machine.
    pub pid: u64,
}

/// Why there is no memory file.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Error {
    TooSmall { min: u64 },
    TooLarge { max: u64 },
    NotOurs(PathBuf),
    InUse(PathBuf),
    Open(PathBuf, Errno),
    FileSizeLimit(u64),
    Resize(Errno),
    Create(Errno),
    AddressSpaceLimit,
    Map(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooSmall { min } => {
                write!(f, "too little memory to boot: at least {}M", min >> 20)
            }
            Error::TooLarge { max } => write!(f, "too much memory: at most {}G", max >> 30),
            Error::NotOurs(p) => write!(
                f,
                "{} exists and is not a memory file; not overwritten",
                p.display()
            ),
            Error::InUse(p) => write!(f, "{} is in use by another machine", p.display()),
            Error::Open(p, e) => write!(f, "cannot open memory file {}: {}", p.display(), text(*e)),
            Error::FileSizeLimit(n) => write!(
                f,
                "the host limits file sizes to {n} bytes (ulimit -f), less than the machine's memory"
            ),
            Error::Resize(e) => write!(f, "cannot size the memory file: {}", text(*e)),
            Error::Create(e) => write!(f, "cannot create the memory file: {}", text(*e)),
            Error::AddressSpaceLimit => f.write_str(
                "the host's address-space limit (ulimit -v) is below the machine's memory",
            ),
            Error::Map(e) => write!(f, "cannot map the memory file: {}", text(*e)),
        }
    }
}

impl std::error::Error for Error {}

/// The host's words for an error number, and which of its limits may be behind it.
pub fn text(e: Errno) -> String {
    let s = std::io::Error::from_raw_os_error(i32::from(e.0)).to_string();
    let words = s.find(" (os error").map_or(s.as_str(), |n| &s[..n]);
    let hint = match e {
        Errno::EMFILE => " (the limit on descriptors, ulimit -n)",
        Errno::ENFILE => " (the limit on descriptors, sysctl fs.file-max)",
        Errno::EAGAIN => " (the limit on processes, ulimit -u, or of the control group)",
        Errno::EFBIG => " (the limit on file sizes, ulimit -f)",
        Errno::ENOMEM if limited_address_space() => " (the limit on address space, ulimit -v)",
        _ => "",
    };
    format!("{words}{hint}")
}

/// The mapped memory file. Lives as long as the machine.
pub struct MemFile {
    fd: i32,
    frames: usize,
    path: Option<PathBuf>,
    no_holes: AtomicBool,
}

impl MemFile {
    /// Creates the file with `size` bytes (rounded up to pages) and maps it at
    /// [`MEM_BASE`]. Without `path` it is a memfd that disappears with the machine.
    pub fn create(size: u64, path: Option<&Path>) -> Result<MemFile, Error> {
        if size < MIN_SIZE {
            return Err(Error::TooSmall { min: MIN_SIZE });
        }
        if size > MEM_MAX as u64 {
            return Err(Error::TooLarge {
                max: MEM_MAX as u64,
            });
        }
        let size = size.next_multiple_of(PAGE_SIZE as u64);
        if let Ok((soft, _)) = host_sys::task::limit(libc::RLIMIT_FSIZE) {
            if soft < size {
                return Err(Error::FileSizeLimit(soft));
            }
        }
        let (fd, fresh) = match path {
            None => (anonymous()?, false),
            Some(p) => named(p)?,
        };
        let undo = |e| {
            if let (true, Some(p)) = (fresh, path) {
                let _ = std::fs::remove_file(p);
            }
            fd::close(fd);
            e
        };
        // A named file that held a machine before must read as zero.
        if path.is_some() {
            fd::ftruncate(fd, 0).map_err(|e| undo(Error::Resize(e)))?;
        }
        fd::ftruncate(fd, size).map_err(|e| undo(Error::Resize(e)))?;
        if path.is_none() {
            let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
            // Only a safeguard; hosts without seals go without.
            let _ = file::fcntl(fd, libc::F_ADD_SEALS, seals as usize);
        }
        map(fd, size as usize).map_err(undo)?;
        let m = MemFile {
            fd,
            frames: (size / PAGE_SIZE as u64) as usize,
            path: path.map(Path::to_path_buf),
            no_holes: AtomicBool::new(false),
        };
        m.write_header();
        Ok(m)
    }

    /// The descriptor, for the engine's mappings in user processes.
    pub fn fd(&self) -> i32 {
        self.fd
    }
    /// Name of the file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn write_header(&self) {
        let h = Header {
            magic: MAGIC,
            version: 1,
            page_size: PAGE_SIZE as u32,
            frames: self.frames as u64,
            base: MEM_BASE as u64,
            cpu0: CPU0_ADDR as u64,
            boot_stack: BOOT_STACK_ADDR as u64,
            kstack_size: KSTACK_SIZE as u64,
            text: MemFile::create as *const () as u64,
            pid: host_sys::task::getpid() as u64,
        };
        let at: *mut Header = core::ptr::with_exposed_provenance_mut(MEM_BASE);
        // SAFETY: frame 0 is mapped, larger than the header and used by nobody else yet.
        unsafe { at.write(h) };
    }
}

/// A memfd.
fn anonymous() -> Result<i32, Error> {
    const MFD_EXEC: u32 = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let name = c"lodger-memory";
    // MFD_EXEC (Linux 6.3) says that pages may be executed; older hosts refuse the flag.
    fd::memfd_create(name, flags | MFD_EXEC)
        .or_else(|_| fd::memfd_create(name, flags))
        .map_err(Error::Create)
}

/// A named file: new, empty, or an earlier memory file; and whether it is new.
fn named(path: &Path) -> Result<(i32, bool), Error> {
    let c = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Open(path.to_path_buf(), Errno::EINVAL))?;
    let open_err = |e| Error::Open(path.to_path_buf(), e);
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY;
    let (fd, fresh) = match fd::open(&c, flags | libc::O_CREAT | libc::O_EXCL, 0o600) {
        Ok(fd) => (fd, true),
        Err(Errno::EEXIST) => (
            fd::open(&c, flags | libc::O_NONBLOCK, 0).map_err(open_err)?,
            false,
        ),
        Err(e) => return Err(open_err(e)),
    };
    let check = || {
        let st = file::fstat(fd).map_err(open_err)?;
        if st.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Error::NotOurs(path.to_path_buf()));
        }
        if st.st_size > 0 {
            let mut magic = [0; 8];
            let n = fd::pread(fd, &mut magic, 0).map_err(open_err)?;
            if n != 8 || magic != MAGIC {
                return Err(Error::NotOurs(path.to_path_buf()));
            }
        }
        match file::flock(fd, libc::LOCK_EX | libc::LOCK_NB) {
            Err(Errno::EAGAIN) => Err(Error::InUse(path.to_path_buf())),
            // File systems without locks: no protection.
            _ => Ok(()),
        }
    };
    match check() {
        Ok(()) => Ok((fd, fresh)),
        Err(e) => {
            fd::close(fd);
            Err(e)
        }
    }
}

fn map(fd: i32, len: usize) -> Result<(), Error> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    // SAFETY: NOREPLACE: nothing that exists is replaced.
    match unsafe { mem::mmap(MEM_BASE, len, prot, flags, fd, 0) } {
        Ok(MEM_BASE) => {}
        Ok(other) => {
            // Hosts before Linux 4.17 take the address as a hint.
            // SAFETY: just mapped, used by nobody.
            let _ = unsafe { mem::munmap(other, len) };
            return Err(Error::Map(Errno::EEXIST));
        }
        Err(Errno::ENOMEM) if limited_address_space() => return Err(Error::AddressSpaceLimit),
        Err(e) => return Err(Error::Map(e)),
    }
    // Not for core dumps (the file is kept on its own), not for the processes
    // forked while the machine starts.
    for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
        // SAFETY: changes no contents.
        let _ = unsafe { mem::madvise(MEM_BASE, len, advice) };
    }
    Ok(())
}

fn limited_address_space() -> bool {
    matches!(host_sys::task::limit(libc::RLIMIT_AS), Ok((soft, _)) if soft != u64::MAX)
}

impl PhysMem for MemFile {
    fn frames(&self) -> usize {
        self.frames
    }
    fn reserved_frames(&self) -> usize {
        2 * KSTACK_SIZE / PAGE_SIZE
    }
    fn discard(&self, first: Pfn, n: usize) {
        let end = (first.0 as usize).saturating_add(n);
        assert!(
            end <= self.frames && first.0 as usize >= self.reserved_frames(),
            "discard of frames that do not exist"
        );
        if n == 0 {
            return;
        }
        if !self.no_holes.load(Ordering::Relaxed) {
            let len = (n * PAGE_SIZE) as u64;
            let punch = || fd::punch_hole(self.fd, first.file_offset(), len);
            match host_sys::raw::no_eintr(punch) {
                Ok(()) => return,
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                    self.no_holes.store(true, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        }
        // SAFETY: the frames exist and the caller has given up their contents.
        unsafe { core::ptr::write_bytes(first.as_ptr(), 0, n * PAGE_SIZE) };
    }
}

/// What to tell the user about the memory file after a crash.
pub fn remains(path: Option<&Path>) -> String {
    match path {
        Some(p) => format!("memory file kept: {}", p.display()),
        None => "memory file not kept (it was anonymous; --memory-file PATH keeps it)".into(),
    }
}
