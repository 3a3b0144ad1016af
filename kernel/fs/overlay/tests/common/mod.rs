//! What the tests share: a machine with memory, a caller, a host directory, and a mounted file system to walk in.
#![allow(dead_code)]

pub mod posix;

use abi::{Errno, Result};
use hal::dev::{HostDir, HostDirEntry, HostFile, HostStat};
use mm::io::{SliceSink, SliceSource};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path as HostPath, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock};
use vfs::device::DeviceTable;
use vfs::file::Caller;
use vfs::inode::Attr;
use vfs::mount::MountFlags;
use vfs::namei::{Walk, WalkFlags};
use vfs::{Cred, File, FileType, FsContext, MountNs, OpenFlags, Path, SuperBlock};

pub fn start() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        // SAFETY: the only call, before anything else uses the memory.
        unsafe { mm::frame::init(hal_fake::machine()) }.unwrap();
    });
}

pub fn clock() -> &'static dyn hal::dev::Clock {
    hal::Platform::clock(hal_fake::machine())
}

/// Drivers of the tests: none.
fn devices() -> &'static DeviceTable {
    static TABLE: OnceLock<DeviceTable> = OnceLock::new();
    TABLE.get_or_init(|| DeviceTable::new(clock()))
}

/// A caller with credentials.
pub struct Cx(pub Arc<Cred>);

impl Caller for Cx {
    fn cred(&self) -> Arc<Cred> {
        self.0.clone()
    }
    fn mm(&self) -> Option<Arc<mm::Mm>> {
        None
    }
    fn pid(&self) -> i32 {
        1
    }
    fn realtime_ns(&self) -> i64 {
        clock().realtime_ns() as i64
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn devices(&self) -> Option<&DeviceTable> {
        Some(devices())
    }
}

/// A process: credentials, root, working directory, mounts.
pub struct Proc {
    pub cx: Cx,
    pub fs: Arc<FsContext>,
    pub ns: Arc<MountNs>,
}

pub fn user(uid: u32) -> Arc<Cred> {
    let mut c = Cred::root();
    c.uid = uid;
    c.euid = uid;
    c.suid = uid;
    c.fsuid = uid;
    c.gid = uid;
    c.egid = uid;
    c.sgid = uid;
    c.fsgid = uid;
    c.effective = vfs::cred::CapSet(0);
    c.permitted = vfs::cred::CapSet(0);
    Arc::new(c)
}

/// A tmpfs whose root belongs to whom the test runs as.
fn root_options() -> tmpfs::Options {
    tmpfs::Options {
        mode: 0o755,
        uid: posix::euid(),
        gid: posix::egid(),
        ..tmpfs::Options::default()
    }
}

impl Proc {
    /// A process of root's, in a namespace whose root is `sb`.
    pub fn new(sb: Arc<dyn SuperBlock>) -> Proc {
        start();
        let ns = MountNs::new(sb, b"test", MountFlags::empty());
        let fs = FsContext::new(ns.root(), ns.root());
        fs.set_umask(0o022);
        Proc {
            cx: Cx(Arc::new(Cred::root())),
            fs,
            ns,
        }
    }
    pub fn tmpfs() -> Proc {
        start();
        Proc::new(tmp(&root_options()))
    }
    pub fn overlay(dir: &HostPath) -> Proc {
        start();
        let upper = tmp(&root_options());
        let lower = host(dir, false);
        Proc::new(overlay::OverlayFs::new(lower, upper, 30))
    }
    pub fn as_user(&self, uid: u32) -> Proc {
        Proc {
            cx: Cx(user(uid)),
            fs: self.fs.clone(),
            ns: self.ns.clone(),
        }
    }
    /// The same process with the rights that the test has on the host.
    pub fn like_on_the_host(mut self) -> Proc {
        if posix::euid() != 0 {
            let mut c = Cred::clone(&user(posix::euid()));
            c.gid = posix::egid();
            (c.egid, c.sgid, c.fsgid) = (c.gid, c.gid, c.gid);
            self.cx = Cx(Arc::new(c));
        }
        self
    }
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            cx: &self.cx,
            fs: &self.fs,
            ns: &self.ns,
            base: None,
        }
    }
    pub fn find(&self, path: &str) -> Result<Path> {
        self.walk().lookup(path.as_bytes(), WalkFlags::FOLLOW)
    }
    pub fn lfind(&self, path: &str) -> Result<Path> {
        self.walk().lookup(path.as_bytes(), WalkFlags::empty())
    }
    pub fn stat(&self, path: &str) -> Result<Attr> {
        vfs::namei::stat(&self.find(path)?)
    }
    pub fn lstat(&self, path: &str) -> Result<Attr> {
        vfs::namei::stat(&self.lfind(path)?)
    }
    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
        self.walk()
            .open(path.as_bytes(), flags, 0o644, WalkFlags::empty())
    }
    pub fn mkdir(&self, path: &str) -> Result {
        self.walk().mkdir(path.as_bytes(), 0o755)
    }
    pub fn unlink(&self, path: &str) -> Result {
        self.walk().unlink(path.as_bytes())
    }
    pub fn rmdir(&self, path: &str) -> Result {
        self.walk().rmdir(path.as_bytes())
    }
    pub fn rename(&self, old: &str, new: &str, flags: u32) -> Result {
        self.walk()
            .rename(old.as_bytes(), &self.walk(), new.as_bytes(), flags)
    }
    pub fn link(&self, old: &str, new: &str) -> Result {
        self.walk().link(&self.lfind(old)?, new.as_bytes())
    }
    pub fn symlink(&self, target: &str, path: &str) -> Result {
        self.walk().symlink(target.as_bytes(), path.as_bytes())
    }
    pub fn write_file(&self, path: &str, data: &[u8]) -> Result {
        let f = self.open(
            path,
            OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC,
        )?;
        assert_eq!(f.write(&self.cx, &mut SliceSource::new(data))?, data.len());
        Ok(())
    }
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let f = self.open(path, OpenFlags::empty())?;
        read_all(&self.cx, &f)
    }
    /// Names in a directory, sorted, without the dots.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let f = self.open(path, OpenFlags::DIRECTORY)?;
        let mut v = list_all(&self.cx, &f)?;
        v.retain(|n| n != "." && n != "..");
        v.sort();
        Ok(v)
    }
    /// Everything not in use goes from the caches.
    pub fn forget(&self) {
        self.ns.shared().shrink(usize::MAX / 4);
    }
}

pub fn read_all(cx: &Cx, f: &File) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut buf = [0u8; 5000];
    loop {
        let n = f.read(cx, &mut SliceSink::new(&mut buf))?;
        if n == 0 {
            return Ok(out);
        }
        out.extend_from_slice(&buf[..n]);
    }
}

pub fn list_all(cx: &Cx, f: &File) -> Result<Vec<String>> {
    let mut out = Vec::new();
    loop {
        // A small buffer: three entries a call.
        let mut room = 3;
        f.read_dir(cx, &mut |name, _, _, _| {
            if room == 0 {
                return false;
            }
            room -= 1;
            out.push(String::from_utf8(name.to_vec()).unwrap());
            true
        })?;
        if room == 3 {
            return Ok(out);
        }
    }
}

pub fn tmp(o: &tmpfs::Options) -> Arc<tmpfs::TmpFs> {
    start();
    tmpfs::TmpFs::new(clock(), 20, o)
}

pub fn host(dir: &HostPath, writable: bool) -> Arc<hostfs::HostFs> {
    start();
    let dir: &'static HostTree = Box::leak(Box::new(HostTree::new(dir)));
    hostfs::HostFs::new(dir, clock(), 25, writable).unwrap()
}

/// A directory that is removed at the end.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let p = std::env::temp_dir().join(format!("lodger-vfs-{}-{n}", std::process::id()));
        fs::DirBuilder::new().mode(0o755).create(&p).unwrap();
        TempDir(p)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        open_up(&self.0);
        let gone = fs::remove_dir_all(&self.0);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// Lets an ordinary user remove what lies in a directory, whatever its mode.
fn open_up(dir: &HostPath) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&e.path());
        }
    }
}

/// A host directory by the standard library.
pub struct HostTree {
    top: PathBuf,
    open: Mutex<HashMap<u32, fs::File>>,
    next: AtomicU32,
    pub stats: AtomicUsize,
}

fn errno(e: std::io::Error) -> Errno {
    Errno(e.raw_os_error().unwrap_or(5) as u16)
}

fn host_stat(m: &fs::Metadata) -> HostStat {
    HostStat {
        dev: m.dev(),
        ino: m.ino(),
        mode: m.mode(),
        nlink: m.nlink() as u32,
        uid: m.uid(),
        gid: m.gid(),
        rdev: m.rdev(),
        size: m.size(),
        blocks: m.blocks(),
        atime_ns: m.atime() * 1_000_000_000 + m.atime_nsec(),
        mtime_ns: m.mtime() * 1_000_000_000 + m.mtime_nsec(),
        ctime_ns: m.ctime() * 1_000_000_000 + m.ctime_nsec(),
    }
}

pub fn c_path(p: &HostPath) -> CString {
    CString::new(p.as_os_str().as_bytes()).unwrap()
}

pub fn check(r: i32) -> Result {
    if r == 0 {
        Ok(())
    } else {
        Err(errno(std::io::Error::last_os_error()))
    }
}

impl HostTree {
    pub fn new(top: &HostPath) -> HostTree {
        HostTree {
            top: top.to_owned(),
            open: Mutex::new(HashMap::new()),
            next: AtomicU32::new(1),
            stats: AtomicUsize::new(0),
        }
    }
    fn at(&self, p: &[u8]) -> PathBuf {
        if p.is_empty() {
            self.top.clone()
        } else {
            self.top.join(OsStr::from_bytes(p))
        }
    }
}

impl HostDir for HostTree {
    fn stat(&self, path: &[u8]) -> Result<HostStat> {
        self.stats.fetch_add(1, Ordering::Relaxed);
        let m = fs::symlink_metadata(self.at(path)).map_err(errno)?;
        Ok(host_stat(&m))
    }
    fn read_dir(&self, path: &[u8]) -> Result<Vec<HostDirEntry>> {
        let mut out = Vec::new();
        for e in fs::read_dir(self.at(path)).map_err(errno)? {
            let e = e.map_err(errno)?;
            // What the directory says, which may be read where its files may not be looked at.
            let t = e.file_type().map_err(errno)?;
            let kind = match (t.is_dir(), t.is_symlink()) {
                (true, _) => libc::DT_DIR,
                (_, true) => libc::DT_LNK,
                _ => libc::DT_REG,
            };
            out.push(HostDirEntry {
                name: e.file_name().into_vec(),
                ino: e.ino(),
                kind,
            });
        }
        Ok(out)
    }
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let p = fs::read_link(self.at(path)).map_err(errno)?;
        Ok(p.into_os_string().into_vec())
    }
    fn open(&self, path: &[u8], write: bool) -> Result<HostFile> {
        let f = fs::OpenOptions::new()
            .read(true)
            .write(write)
            .open(self.at(path))
            .map_err(errno)?;
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().unwrap().insert(n, f);
        Ok(HostFile(n))
    }
    fn read(&self, file: HostFile, buf: &mut [u8], offset: u64) -> Result<usize> {
        let open = self.open.lock().unwrap();
        let f = open.get(&file.0).ok_or(Errno::EBADF)?;
        f.read_at(buf, offset).map_err(errno)
    }
    fn stat_file(&self, file: HostFile) -> Result<HostStat> {
        let open = self.open.lock().unwrap();
        let f = open.get(&file.0).ok_or(Errno::EBADF)?;
        Ok(host_stat(&f.metadata().map_err(errno)?))
    }
    fn close(&self, file: HostFile) {
        assert!(self.open.lock().unwrap().remove(&file.0).is_some());
    }
    fn statfs(&self) -> Result<[u64; 5]> {
        Ok([1000, 500, 500, 100, 50])
    }
    fn get_xattr(&self, _path: &[u8], _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::ENODATA)
    }
    fn list_xattr(&self, _path: &[u8]) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn write(&self, file: HostFile, buf: &[u8], offset: u64) -> Result<usize> {
        let open = self.open.lock().unwrap();
        let f = open.get(&file.0).ok_or(Errno::EBADF)?;
        f.write_at(buf, offset).map_err(errno)
    }
    fn truncate(&self, path: &[u8], size: u64) -> Result {
        let f = fs::OpenOptions::new()
            .write(true)
            .open(self.at(path))
            .map_err(errno)?;
        f.set_len(size).map_err(errno)
    }
    fn create(&self, path: &[u8], mode: u32) -> Result {
        let c = c_path(&self.at(path));
        if mode & libc::S_IFMT == libc::S_IFDIR {
            return posix::mkdir(&c, mode & 0o7777);
        }
        // SAFETY: a plain call with a valid string.
        check(unsafe { libc::mknod(c.as_ptr(), mode, 0) })
    }
    fn symlink(&self, path: &[u8], target: &[u8]) -> Result {
        std::os::unix::fs::symlink(OsStr::from_bytes(target), self.at(path)).map_err(errno)
    }
    fn link(&self, old: &[u8], new: &[u8]) -> Result {
        fs::hard_link(self.at(old), self.at(new)).map_err(errno)
    }
    fn remove(&self, path: &[u8], dir: bool) -> Result {
        if dir {
            fs::remove_dir(self.at(path)).map_err(errno)
        } else {
            fs::remove_file(self.at(path)).map_err(errno)
        }
    }
    fn rename(&self, old: &[u8], new: &[u8], flags: u32) -> Result {
        let (a, b) = (c_path(&self.at(old)), c_path(&self.at(new)));
        posix::rename(&a, &b, flags)
    }
    fn set_attr(
        &self,
        path: &[u8],
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        atime_ns: Option<i64>,
        mtime_ns: Option<i64>,
    ) -> Result {
        let c = c_path(&self.at(path));
        if let Some(m) = mode {
            // SAFETY: plain call with a valid string.
            check(unsafe { libc::chmod(c.as_ptr(), m) })?;
        }
        if uid.is_some() || gid.is_some() {
            std::os::unix::fs::lchown(self.at(path), uid, gid).map_err(errno)?;
        }
        if atime_ns.is_some() || mtime_ns.is_some() {
            let spec = |t: Option<i64>| libc::timespec {
                tv_sec: t.map_or(0, |t| t.div_euclid(1_000_000_000)),
                tv_nsec: t.map_or(libc::UTIME_OMIT, |t| t.rem_euclid(1_000_000_000)),
            };
            let ts = [spec(atime_ns), spec(mtime_ns)];
            // SAFETY: plain call with valid pointers.
            check(unsafe {
                libc::utimensat(
                    libc::AT_FDCWD,
                    c.as_ptr(),
                    ts.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                )
            })?;
        }
        Ok(())
    }
}

pub fn kind_of(a: &Attr) -> FileType {
    a.file_type()
}
