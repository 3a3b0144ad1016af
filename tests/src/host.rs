//! What a machine must not change on the host: a tree of marker files, and the
//! directories where programs leave things behind.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Directories for things that are left behind.
const TEMPORARY: [&str; 2] = ["/tmp", "/dev/shm"];

/// Gives this process its own empty /tmp and /dev/shm, so that nothing but the
/// run under test changes them. Needs root and one thread; without it, or where the build is
/// below /tmp, they stay shared.
pub fn private_directories() {
    let busy =
        |d: &str| crate::build::target_dir().starts_with(d) || crate::build::root().starts_with(d);
    let none = std::ptr::null();
    // SAFETY: changes the mounts of this process only; all pointers are valid strings or null.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            return;
        }
        let recursive = libc::MS_REC | libc::MS_PRIVATE;
        if libc::mount(none, c"/".as_ptr(), none, recursive, none.cast()) != 0 {
            return;
        }
        let own = TEMPORARY.into_iter().filter(|d| {
            let dir = CString::new(*d).expect("no zero byte");
            let (kind, mode) = (c"tmpfs".as_ptr(), c"mode=1777".as_ptr());
            !busy(d) && libc::mount(kind, dir.as_ptr(), kind, 0, mode.cast()) == 0
        });
        let _ = PRIVATE.set(own.collect());
    }
}

/// The directories of which [`private_directories`] has made own ones.
static PRIVATE: OnceLock<Vec<&str>> = OnceLock::new();

/// Whether [`private_directories`] has given this process mounts of its own.
pub fn has_own_mounts() -> bool {
    PRIVATE.get().is_some()
}

/// One file: everything but the time of the last access, and its content.
type Seen = (u32, u64, u32, u64, i64, i64, i64, i64, Vec<u8>);

/// A tree of files with various properties, and all that is around it.
#[derive(Debug)]
pub struct Marker {
    /// The tree.
    pub dir: PathBuf,
    before: BTreeMap<PathBuf, Seen>,
    around: BTreeMap<PathBuf, u64>,
}

impl Marker {
    /// A new tree called `name`.
    pub fn new(name: &str) -> std::io::Result<Marker> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = crate::build::scratch().join(format!("mark-{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("sub/deep"))?;
        std::fs::write(dir.join("a"), "unchanged")?;
        std::fs::write(dir.join("b"), vec![b'b'; 100_000])?;
        std::fs::write(dir.join("sub/c"), "")?;
        std::fs::write(dir.join("sub/deep/d"), "deep")?;
        std::fs::set_permissions(dir.join("b"), std::fs::Permissions::from_mode(0o640))?;
        symlink("a", dir.join("sub/l"))?;
        std::fs::hard_link(dir.join("a"), dir.join("hard"))?;
        // Everybody may change it: nothing but the machine protects it.
        for d in ["", "sub", "sub/deep", "a"] {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(dir.join(d), mode)?;
        }
        let mut before = BTreeMap::new();
        look(&dir, &mut before)?;
        let around = around(&dir);
        Ok(Marker {
            dir,
            before,
            around,
        })
    }

    /// What has changed since, in words.
    pub fn changes(&self) -> Vec<String> {
        let mut now = BTreeMap::new();
        if let Err(e) = look(&self.dir, &mut now) {
            return vec![format!("{}: {e}", self.dir.display())];
        }
        let all = self.before.keys().chain(now.keys());
        let mut found: Vec<String> = all
            .filter(|p| self.before.get(*p) != now.get(*p))
            .map(|p| format!("{} has changed", p.display()))
            .collect();
        let new = around(&self.dir);
        let new = new.iter().filter(|(p, i)| self.around.get(*p) != Some(i));
        found.extend(new.map(|(p, _)| format!("{} is new", p.display())));
        found.dedup();
        found
    }
}

fn look(at: &Path, into: &mut BTreeMap<PathBuf, Seen>) -> std::io::Result<()> {
    let m = at.symlink_metadata()?;
    let content = match m.file_type() {
        t if t.is_file() => std::fs::read(at)?,
        t if t.is_symlink() => std::fs::read_link(at)?
            .into_os_string()
            .into_encoded_bytes(),
        _ => vec![],
    };
    let (mtime, ctime) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
    let seen = (
        m.mode(),
        m.nlink(),
        m.uid(),
        m.size(),
        mtime.0,
        mtime.1,
        ctime.0,
        ctime.1,
        content,
    );
    into.insert(at.to_path_buf(), seen);
    if m.is_dir() {
        for e in std::fs::read_dir(at)? {
            look(&e?.path(), into)?;
        }
    }
    Ok(())
}

/// What lies in the temporary directories, without `tree` and what leads to it. Where
/// others use them too, only what bears a name of ours.
fn around(tree: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for dir in TEMPORARY {
        let private = PRIVATE.get().is_some_and(|p| p.contains(&dir));
        for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = e.file_name().to_string_lossy().into_owned();
            let ours = private || name.contains("lodger-") && !name.starts_with("lodger-tests-");
            let inode = e.metadata().map_or(0, |m| m.ino());
            if ours && !tree.starts_with(e.path()) {
                found.insert(e.path(), inode);
            }
        }
    }
    found
}
