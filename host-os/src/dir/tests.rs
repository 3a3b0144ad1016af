//! Trees in temporary directories: confinement, eviction, writing.

use super::*;
use hal::dev::HostDir;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

struct Temp(PathBuf);

impl Temp {
    fn new() -> Temp {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let p = std::env::temp_dir().join(format!("lodger-dir-{}-{n}", std::process::id()));
        fs::create_dir_all(&p).unwrap();
        Temp(p)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tree(t: &Temp, writable: bool, budget: usize) -> HostTree {
    HostTree::open(&t.0, writable, 0, Arc::new(Fds::new(budget))).unwrap()
}

fn read_all(t: &HostTree, f: HostFile) -> Vec<u8> {
    let mut b = vec![0; 64];
    let n = t.read(f, &mut b, 0).unwrap();
    b.truncate(n);
    b
}

#[test]
fn reads_what_is_there() {
    let t = Temp::new();
    fs::create_dir_all(t.0.join("a/b")).unwrap();
    fs::write(t.0.join("a/b/file"), b"hello").unwrap();
    symlink("b/file", t.0.join("a/link")).unwrap();
    let h = tree(&t, false, 64);
    assert_eq!(h.stat(b"").unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
    assert_eq!(h.stat(b"a/b/file").unwrap().size, 5);
    assert_eq!(
        h.stat(b"a/link").unwrap().mode & libc::S_IFMT,
        libc::S_IFLNK
    );
    assert_eq!(h.read_link(b"a/link").unwrap(), b"b/file");
    assert_eq!(h.read_link(b"a/b"), Err(Errno::EINVAL));
    assert_eq!(h.read_link(b""), Err(Errno::EINVAL));
    let mut names: Vec<_> = h.read_dir(b"a").unwrap();
    names.sort_by(|x, y| x.name.cmp(&y.name));
    assert_eq!(names.len(), 2);
    assert_eq!(
        (&names[0].name[..], names[0].kind),
        (&b"b"[..], libc::DT_DIR)
    );
    assert_eq!(
        (&names[1].name[..], names[1].kind),
        (&b"link"[..], libc::DT_LNK)
    );
    let f = h.open(b"a/b/file", false).unwrap();
    let mut b = [0; 3];
    assert_eq!(h.read(f, &mut b, 1), Ok(3));
    assert_eq!(&b, b"ell");
    assert_eq!(h.read(f, &mut b, 5), Ok(0));
    assert_eq!(h.read(f, &mut b, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(h.stat_file(f).unwrap(), h.stat(b"a/b/file").unwrap());
    h.close(f);
    assert_eq!(h.read(f, &mut b, 0), Err(Errno::EBADF));
    assert_eq!(h.open(b"a", false), Err(Errno::EISDIR));
    assert_eq!(h.open(b"a/none", false), Err(Errno::ENOENT));
    assert_eq!(h.stat(b"a/b/file/x"), Err(Errno::ENOTDIR));
    assert!(h.statfs().unwrap()[0] > 0);
}

/// Every operation on every path that tries to get out.
#[test]
fn never_leaves_the_tree() {
    let outside = Temp::new();
    fs::create_dir(outside.0.join("d")).unwrap();
    fs::write(outside.0.join("d/secret"), b"secret").unwrap();
    let t = Temp::new();
    symlink(&outside.0, t.0.join("abs")).unwrap();
    symlink("..", t.0.join("up")).unwrap();
    symlink(outside.0.join("d/secret"), t.0.join("file")).unwrap();
    symlink("/proc/self/root", t.0.join("magic")).unwrap();
    let rel = format!("../{}", outside.0.file_name().unwrap().to_str().unwrap());
    symlink(&rel, t.0.join("rel")).unwrap();

    for openat2 in [true, false] {
        OPENAT2.store(openat2, Ordering::Relaxed);
        let h = tree(&t, true, 64);
        for p in [
            &b"abs/d/secret"[..],
            b"rel/d/secret",
            b"up/x",
            b"file",
            b"magic/etc/passwd",
            b"../x",
            b"abs/../x",
            b"/etc/passwd",
        ] {
            assert!(h.open(p, false).is_err(), "{p:?}");
            assert!(h.open(p, true).is_err(), "{p:?}");
            assert!(h.truncate(p, 0).is_err(), "{p:?}");
        }
        for p in [
            &b"abs/d"[..],
            b"rel/d",
            b"up/etc",
            b"magic/etc",
            b"..",
            b"abs",
            b"rel",
        ] {
            assert!(h.read_dir(p).is_err(), "{p:?}");
            let inside = [p, b"/new"].concat();
            assert!(h.create(&inside, libc::S_IFREG | 0o600).is_err(), "{p:?}");
            assert!(h.symlink(&inside, b"x").is_err(), "{p:?}");
            assert!(h.link(b"file", &inside).is_err(), "{p:?}");
            assert!(h.rename(b"file", &inside, 0).is_err(), "{p:?}");
        }
        assert!(h.remove(b"abs/d/secret", false).is_err());
        assert!(
            h.set_attr(b"abs/d/secret", Some(0), None, None, None, None)
                .is_err()
        );
        // The links themselves are files of the tree; what they name is not touched.
        let _ = h.set_attr(b"file", Some(0), None, None, None, Some(0));
        let _ = h.get_xattr(b"file", b"user.x");
    }
    OPENAT2.store(true, Ordering::Relaxed);
    let st = fs::metadata(outside.0.join("d/secret")).unwrap();
    assert_eq!(st.len(), 6);
    assert_ne!(st.permissions().mode() & 0o777, 0);
    assert_ne!(st.mtime(), 0);
    assert_eq!(fs::read_dir(outside.0.join("d")).unwrap().count(), 1);
}

#[test]
fn pipes_and_devices_are_not_opened() {
    let t = Temp::new();
    let c = CString::new(t.0.join("fifo").as_os_str().as_bytes()).unwrap();
    file::mknodat(libc::AT_FDCWD, &c, libc::S_IFIFO | 0o600, 0).unwrap();
    let h = tree(&t, false, 64);
    assert_eq!(h.open(b"fifo", false), Err(Errno::ENXIO));
    let dev = HostTree::open(Path::new("/dev"), false, 0, Arc::new(Fds::new(64))).unwrap();
    assert_eq!(dev.open(b"null", false), Err(Errno::ENXIO));
}

#[test]
fn long_names_and_deep_paths() {
    let t = Temp::new();
    let h = tree(&t, true, 16);
    assert_eq!(h.stat(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
    assert_eq!(h.stat(&b"x/".repeat(2100)), Err(Errno::ENAMETOOLONG));
    let mut p: Vec<u8> = Vec::new();
    for _ in 0..15 {
        if !p.is_empty() {
            p.push(b'/');
        }
        p.extend([b'd'; 250]);
        h.create(&p, libc::S_IFDIR | 0o755).unwrap();
    }
    assert_eq!(h.stat(&p).unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
}

#[test]
fn more_files_than_descriptors() {
    let t = Temp::new();
    let h = tree(&t, false, 16);
    let files: Vec<_> = (0..200)
        .map(|i| {
            let name = format!("f{i}");
            fs::write(t.0.join(&name), name.as_bytes()).unwrap();
            h.open(name.as_bytes(), false).unwrap()
        })
        .collect();
    assert!(h.fds.open_files() <= 16);
    for round in 0..3 {
        for (i, f) in files.iter().enumerate() {
            assert_eq!(read_all(&h, *f), format!("f{i}").as_bytes(), "{round}");
        }
    }
    assert!(h.fds.open_files() <= 16);
    // Another file under the name of an evicted one is not taken for it.
    for i in 0..200 {
        let name = t.0.join(format!("f{i}"));
        fs::write(t.0.join("tmp"), b"other").unwrap();
        fs::rename(t.0.join("tmp"), name).unwrap();
    }
    let mut stale = 0;
    for (i, f) in files.iter().enumerate() {
        let mut b = [0; 8];
        match h.read(*f, &mut b, 0) {
            Ok(n) => assert_eq!(&b[..n], format!("f{i}").as_bytes()),
            Err(e) => {
                assert_eq!(e, Errno::ESTALE);
                stale += 1;
            }
        }
    }
    assert!(stale >= 180);
    for f in files {
        h.close(f);
    }
    assert_eq!(h.fds.open_files(), 0);
    assert!(h.fds.relieve() || h.fds.open_files() == 0);
}

#[test]
fn many_directories_and_changes_on_the_host() {
    let t = Temp::new();
    let h = tree(&t, false, 16);
    for i in 0..100 {
        fs::create_dir(t.0.join(format!("d{i}"))).unwrap();
        fs::write(t.0.join(format!("d{i}/f")), b"x").unwrap();
    }
    for _ in 0..2 {
        for i in 0..100 {
            assert!(h.stat(format!("d{i}/f").as_bytes()).is_ok());
        }
    }
    assert!(h.stat(b"d0/f").is_ok());
    fs::rename(t.0.join("d0"), t.0.join("moved")).unwrap();
    std::thread::sleep(std::time::Duration::from_nanos(
        fds::DIR_TTL_NS + 20_000_000,
    ));
    assert_eq!(h.stat(b"d0/f"), Err(Errno::ENOENT));
    assert!(h.stat(b"moved/f").is_ok());
}

#[test]
fn read_only_trees_change_nothing() {
    let t = Temp::new();
    fs::write(t.0.join("f"), b"x").unwrap();
    let h = tree(&t, false, 64);
    let rofs = Err(Errno::EROFS);
    assert_eq!(h.open(b"f", true).map(|_| ()), rofs);
    assert_eq!(h.truncate(b"f", 0), rofs);
    assert_eq!(h.create(b"g", libc::S_IFREG | 0o644), rofs);
    assert_eq!(h.symlink(b"g", b"f"), rofs);
    assert_eq!(h.link(b"f", b"g"), rofs);
    assert_eq!(h.remove(b"f", false), rofs);
    assert_eq!(h.rename(b"f", b"g", 0), rofs);
    assert_eq!(h.set_attr(b"f", Some(0), None, None, None, None), rofs);
    let f = h.open(b"f", false).unwrap();
    assert_eq!(h.write(f, b"y", 0).map(|_| ()), rofs);
    assert_eq!(fs::read(t.0.join("f")).unwrap(), b"x");
}

#[test]
fn writable_trees_pass_changes_on() {
    let t = Temp::new();
    let h = tree(&t, true, 64);
    h.create(b"d", libc::S_IFDIR | 0o700).unwrap();
    h.create(b"d/f", libc::S_IFREG | 0o640).unwrap();
    assert_eq!(h.create(b"d/f", libc::S_IFREG | 0o640), Err(Errno::EEXIST));
    assert_eq!(h.create(b"d/dev", libc::S_IFCHR | 0o666), Err(Errno::EPERM));
    let f = h.open(b"d/f", true).unwrap();
    assert_eq!(h.write(f, b"hello", 2), Ok(5));
    h.fsync(f).unwrap();
    assert_eq!(fs::read(t.0.join("d/f")).unwrap(), b"\0\0hello");
    h.truncate(b"d/f", 3).unwrap();
    assert_eq!(h.stat(b"d/f").unwrap().size, 3);
    h.set_attr(
        b"d/f",
        Some(0o604),
        None,
        None,
        Some(1),
        Some(1_500_000_000),
    )
    .unwrap();
    let st = h.stat(b"d/f").unwrap();
    assert_eq!(st.mode & 0o7777, 0o604);
    assert_eq!((st.atime_ns, st.mtime_ns), (1, 1_500_000_000));
    h.symlink(b"l", b"d/f").unwrap();
    assert_eq!(fs::read_link(t.0.join("l")).unwrap(), Path::new("d/f"));
    h.link(b"d/f", b"hard").unwrap();
    assert_eq!(h.stat(b"hard").unwrap().nlink, 2);
    assert_eq!(h.remove(b"d", true), Err(Errno::ENOTEMPTY));
    assert_eq!(h.remove(b"", true), Err(Errno::EBUSY));
    h.remove(b"hard", false).unwrap();
    assert_eq!(h.stat(b"hard"), Err(Errno::ENOENT));
}

/// A file that is open keeps its contents when its name goes, even if its
/// descriptor had been closed behind the index.
#[test]
fn open_files_survive_rename_and_removal() {
    let t = Temp::new();
    let h = tree(&t, true, 8);
    h.create(b"d", libc::S_IFDIR | 0o755).unwrap();
    for n in ["gone", "moved", "over", "d/deep"] {
        fs::write(t.0.join(n), n.as_bytes()).unwrap();
    }
    let [gone, moved, over, deep] =
        [&b"gone"[..], b"moved", b"over", b"d/deep"].map(|p| h.open(p, false).unwrap());
    let flood = |h: &HostTree| {
        for i in 0..40 {
            let n = format!("x{i}");
            fs::write(t.0.join(&n), b"x").unwrap();
            let f = h.open(n.as_bytes(), false).unwrap();
            read_all(h, f);
        }
    };
    flood(&h);
    h.remove(b"gone", false).unwrap();
    h.rename(b"moved", b"over", 0).unwrap();
    h.rename(b"d", b"e", 0).unwrap();
    flood(&h);
    assert_eq!(read_all(&h, gone), b"gone");
    assert_eq!(read_all(&h, moved), b"moved");
    assert_eq!(read_all(&h, over), b"over");
    assert_eq!(read_all(&h, deep), b"d/deep");
    assert_eq!(h.stat(b"d/deep"), Err(Errno::ENOENT));
    assert!(h.stat(b"e/deep").is_ok());
}

#[test]
fn a_single_file_is_a_tree() {
    let t = Temp::new();
    fs::write(t.0.join("one"), b"1").unwrap();
    fs::write(t.0.join("two"), b"22").unwrap();
    let h = HostTree::open(&t.0.join("one"), true, 0, Arc::new(Fds::new(16))).unwrap();
    assert!(!h.is_dir());
    assert_eq!(h.stat(b"").unwrap().size, 1);
    assert_eq!(h.stat(b"two"), Err(Errno::ENOTDIR));
    assert_eq!(h.stat(b"../two"), Err(Errno::EXDEV));
    let f = h.open(b"", true).unwrap();
    h.write(f, b"one", 0).unwrap();
    assert_eq!(read_all(&h, f), b"one");
    assert_eq!(h.read_dir(b""), Err(Errno::ENOTDIR));
}

#[test]
fn extended_attributes() {
    let t = Temp::new();
    fs::write(t.0.join("f"), b"").unwrap();
    let h = tree(&t, false, 16);
    assert!(matches!(
        h.get_xattr(b"f", b"user.lodger"),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP)
    ));
    assert!(h.list_xattr(b"f").is_ok());
    assert!(matches!(
        h.get_xattr(b"", b"user.lodger"),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP)
    ));
    assert!(h.list_xattr(b"").is_ok());
    assert_eq!(h.get_xattr(b"f", &[b'x'; 300]), Err(Errno::ERANGE));
    assert_eq!(h.get_xattr(b"none", b"user.a"), Err(Errno::ENOENT));
}

#[test]
fn threads_share_a_tree() {
    let t = Temp::new();
    let h = tree(&t, false, 8);
    let files: Vec<_> = (0..32)
        .map(|i| {
            let n = format!("f{i}");
            fs::write(t.0.join(&n), n.as_bytes()).unwrap();
            h.open(n.as_bytes(), false).unwrap()
        })
        .collect();
    std::thread::scope(|s| {
        for k in 0..4 {
            let (h, files) = (&h, &files);
            s.spawn(move || {
                for i in 0..2000 {
                    let n = (i * 7 + k * 11) % files.len();
                    assert_eq!(read_all(h, files[n]), format!("f{n}").as_bytes());
                }
            });
        }
    });
}
