//! The tree of a fresh machine: the root, the machine's own file systems, the binds.

use crate::BootParams;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use hal::platform::LogLevel;
use hostfs::HostFs;
use overlay::OverlayFs;
use task::{Ctx, Kernel};
use tmpfs::{Options, TmpFs};
use vfs::file::Caller;
use vfs::mount::{FsType, MountFlags};
use vfs::namei::{Walk, WalkFlags};
use vfs::{FileType, FsContext, MountNs, Path, SuperBlock};

/// Time between two write-backs.
const WRITE_BACK_NS: u64 = 5_000_000_000;

/// File systems that mount(2) knows.
const FS_TYPES: &[FsType] = &[
    FsType {
        name: "sysfs",
        needs_dev: false,
        mount: |cx, _, _| sysfs(kernel_of(cx)?).map(|s| s as Arc<dyn SuperBlock>),
    },
    tmpfs::FS_TYPE,
    FsType {
        name: "ramfs",
        needs_dev: false,
        mount: tmpfs::FS_TYPE.mount,
    },
    FsType {
        name: "proc",
        needs_dev: false,
        mount: |cx, _, _| {
            let k = kernel_of(cx)?;
            Ok(procfs::new(k, k.devices.next_anon_dev()))
        },
    },
    FsType {
        name: "devpts",
        needs_dev: false,
        mount: tty::mount_devpts,
    },
];

fn kernel_of(cx: &dyn Caller) -> Result<&'static Kernel> {
    Ctx::from_caller(cx).map(Ctx::kernel).ok_or(Errno::ENODEV)
}

fn sysfs(k: &'static Kernel) -> Result<Arc<vfs::pseudo::PseudoFs>> {
    let facts = sysfs::Facts { ncpus: k.ncpus() };
    let dev = k.devices.next_anon_dev();
    Ok(sysfs::new(facts, dev, k.boot_realtime_ns as i64))
}

/// A tmpfs for root with this mode.
fn tmp(k: &'static Kernel, mode: u32) -> Arc<TmpFs> {
    let o = Options {
        mode,
        ..Options::default()
    };
    TmpFs::new(k.platform.clock(), k.devices.next_anon_dev(), &o)
}

/// What went wrong while mounting, for the one line that the user sees.
pub(crate) struct MountError {
    /// What was to be mounted.
    pub what: String,
    pub errno: Errno,
}

fn failed(what: &[u8]) -> impl FnOnce(Errno) -> MountError {
    let what = String::from_utf8_lossy(what).into_owned();
    move |errno| MountError { what, errno }
}

/// Mounts the root: the host tree below, a tmpfs above.
pub(crate) fn root(k: &'static Kernel) -> Result<Arc<MountNs>, MountError> {
    let dir = k
        .platform
        .host_dir(0)
        .ok_or(Errno::ENOENT)
        .map_err(failed(b"/"))?;
    let lower = HostFs::new(dir, k.platform.clock(), k.devices.next_anon_dev(), false)
        .map_err(failed(b"/"))?;
    let upper = tmp(k, 0o755);
    let sb = OverlayFs::new(lower, upper, k.devices.next_anon_dev());
    k.set_fs_types(FS_TYPES.to_vec());
    Ok(MountNs::new(sb, b"overlay", MountFlags::RELATIME))
}

/// Mounts everything else and fills /dev; gives the host trees that may be written. Runs as pid 1.
pub(crate) fn rest(cx: &Ctx, params: &BootParams) -> Result<Vec<Arc<HostFs>>, MountError> {
    let k = cx.kernel();
    let fs = context(k.mounts());
    fs.set_umask(0);
    let m = Mounter { cx, fs };
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    let quiet = MountFlags::NOSUID | MountFlags::RELATIME;
    m.mount(
        b"/proc",
        procfs::new(k, k.devices.next_anon_dev()),
        b"proc",
        safe,
    )?;
    let sys = sysfs(k).map_err(failed(b"/sys"))?;
    m.mount(b"/sys", sys, b"sysfs", safe)?;
    m.mount(b"/dev", tmp(k, 0o755), b"udev", quiet)?;
    m.mount(b"/run", tmp(k, 0o755), b"tmpfs", quiet | MountFlags::NODEV)?;
    m.fill_dev().map_err(failed(b"/dev"))?;
    let pts = tty::mount_devpts(cx, b"devpts", b"gid=5,mode=620,ptmxmode=666")
        .map_err(failed(b"/dev/pts"))?;
    m.mount(b"/dev/pts", pts, b"devpts", quiet | MountFlags::NOEXEC)?;
    m.mount(
        b"/dev/shm",
        tmp(k, 0o1777),
        b"tmpfs",
        quiet | MountFlags::NODEV,
    )?;
    let mut writable = Vec::new();
    for b in &params.binds {
        let sb = m.bind(b.host_dir, &b.guest, b.read_only)?;
        if !b.read_only {
            writable.push(sb);
        }
    }
    Ok(writable)
}

/// Has what is written to `trees` given to the host every few seconds, close(2)
/// and fsync(2) aside: files that stay open, and shared mappings.
pub(crate) fn write_back_regularly(k: &'static Kernel, trees: Vec<Arc<HostFs>>) -> Result {
    let trees: Vec<Weak<HostFs>> = trees.iter().map(Arc::downgrade).collect();
    let period = move || loop {
        let until = k.now() + WRITE_BACK_NS;
        let _ = sync::wait_event(&[], false, Some(until), false, || None::<()>);
        for t in trees.iter().filter_map(Weak::upgrade) {
            // What failed stays dirty and is tried again; fsync(2) tells.
            let _ = t.write_back();
        }
    };
    task::start::spawn_kernel(k, b"kwriteback", period).map(|_| ())
}

struct Mounter<'a> {
    cx: &'a Ctx,
    /// The root, umask 0.
    fs: Arc<FsContext>,
}

impl Mounter<'_> {
    fn walk(&self) -> Walk<'_> {
        Walk {
            cx: self.cx,
            fs: &self.fs,
            ns: self.cx.kernel().mounts(),
            base: None,
        }
    }
    /// The directory at `path`, made with its ancestors if it is not there.
    fn directory(&self, path: &[u8]) -> Result<Path> {
        match self.walk().lookup(path, WalkFlags::FOLLOW) {
            Err(Errno::ENOENT) => {}
            r => return r,
        }
        let ends = path.iter().enumerate().skip(1).filter(|(_, b)| **b == b'/');
        for end in ends.map(|(i, _)| i).chain([path.len()]) {
            match self.walk().mkdir(&path[..end], 0o755) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        self.walk().lookup(path, WalkFlags::FOLLOW)
    }
    fn mount(
        &self,
        at: &[u8],
        sb: Arc<dyn SuperBlock>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<(), MountError> {
        let place = self.directory(at).map_err(failed(at))?;
        let ns = self.cx.kernel().mounts();
        ns.mount(&place, sb, source, flags).map_err(failed(at))?;
        Ok(())
    }
    fn fill_dev(&self) -> Result {
        let under = |name: &[u8]| {
            let mut p = Vec::from(&b"/dev/"[..]);
            p.extend_from_slice(name);
            p
        };
        for (name, major, minor, mode) in devfs::NODES {
            let mode = FileType::Char.mode_bits() | mode;
            let dev = abi::stat::makedev(*major, *minor);
            self.walk().mknod(&under(name), mode, dev)?;
        }
        for (name, target) in devfs::LINKS {
            self.walk().symlink(target, &under(name))?;
        }
        for (name, mode) in devfs::DIRS {
            self.walk().mkdir(&under(name), *mode)?;
        }
        Ok(())
    }
    /// Shows host tree `index` at `guest`: a directory on a directory, a file on a file.
    fn bind(&self, index: u32, guest: &[u8], read_only: bool) -> Result<Arc<HostFs>, MountError> {
        let k = self.cx.kernel();
        let sb = k
            .platform
            .host_dir(index)
            .ok_or(Errno::ENOENT)
            .and_then(|dir| {
                let dev = k.devices.next_anon_dev();
                HostFs::new(dir, k.platform.clock(), dev, !read_only)
            })
            .map_err(failed(guest))?;
        let place = if sb.root().file_type() == FileType::Dir {
            self.directory(guest)
        } else {
            self.file(guest)
        };
        let place = place.map_err(failed(guest))?;
        let mut flags = MountFlags::RELATIME;
        flags.set(MountFlags::RDONLY, read_only);
        let ns = k.mounts();
        ns.mount(&place, sb.clone(), b"host", flags)
            .map_err(failed(guest))?;
        k.log(LogLevel::Debug, {
            let mut s = String::from("bound ");
            s.push_str(&String::from_utf8_lossy(guest));
            s
        });
        Ok(sb)
    }
    fn file(&self, path: &[u8]) -> Result<Path> {
        match self.walk().lookup(path, WalkFlags::FOLLOW) {
            Err(Errno::ENOENT) => {}
            r => return r,
        }
        if let Some(i) = path.iter().rposition(|b| *b == b'/').filter(|i| *i > 0) {
            self.directory(&path[..i])?;
        }
        self.walk()
            .mknod(path, FileType::Regular.mode_bits() | 0o644, 0)
    }
}

/// Root and working directory at the root of the tree.
pub(crate) fn context(ns: &MountNs) -> Arc<FsContext> {
    FsContext::new(ns.root(), ns.root())
}
