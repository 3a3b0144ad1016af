//! Random operations on a tmpfs, an overlay and a writable hostfs have the
//! results that the host's own Linux gives.

mod common;

use abi::{Errno, Result};
use common::*;
use mm::io::SliceSource;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path as HostPath;
use vfs::OpenFlags;
use vfs::namei::Change;

#[derive(Clone, Debug)]
enum Op {
    Mkdir(String),
    Write(String, u64, usize),
    Create(String, bool),
    Append(String, usize),
    Truncate(String, u64),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, u32),
    Link(String, String),
    Symlink(String, String),
    Chmod(String, u32),
    Read(String),
    List(String),
    Stat(String),
    /// Everything goes from the caches.
    Forget,
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        20 => Just("a"), 20 => Just("b"), 20 => Just("c"), 10 => Just("d"),
        2 => Just("."), 2 => Just(".."),
    ];
    (proptest::collection::vec(name, 1..4), 0..12u8).prop_map(|(v, end)| {
        // `..` must not leave the tree that the host shows.
        let mut depth = 0;
        let mut out: Vec<&str> = Vec::new();
        for n in v {
            if n == ".." {
                if depth == 0 {
                    continue;
                }
                depth -= 1;
            } else if n != "." {
                depth += 1;
            }
            out.push(n);
        }
        if out.is_empty() {
            out.push("a");
        }
        let mut s = out.join("/");
        if end == 0 {
            s.push('/');
        }
        s
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => path().prop_map(Op::Mkdir),
        6 => (path(), 0..9000u64, 0..5000usize).prop_map(|(p, o, n)| Op::Write(p, o, n)),
        4 => (path(), any::<bool>()).prop_map(|(p, x)| Op::Create(p, x)),
        3 => (path(), 1..5000usize).prop_map(|(p, n)| Op::Append(p, n)),
        2 => (path(), 0..9000u64).prop_map(|(p, n)| Op::Truncate(p, n)),
        4 => path().prop_map(Op::Unlink),
        4 => path().prop_map(Op::Rmdir),
        8 => (path(), path(), prop_oneof![4 => Just(0u32), 1 => Just(1), 1 => Just(2)])
            .prop_map(|(a, b, f)| Op::Rename(a, b, f)),
        3 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => (prop_oneof![Just("a"), Just("b/c"), Just("d/../a"), Just("c"), Just("nowhere")], path())
            .prop_map(|(t, p)| Op::Symlink(t.into(), p)),
        2 => (path(), prop_oneof![Just(0o755u32), Just(0o700), Just(0o640), Just(0o600)])
            .prop_map(|(p, m)| Op::Chmod(p, m)),
        3 => path().prop_map(Op::Read),
        3 => path().prop_map(Op::List),
        3 => path().prop_map(Op::Stat),
        2 => Just(Op::Forget),
    ]
}

/// What an operation gave.
#[derive(PartialEq, Eq, Debug)]
enum Got {
    Unit(Result),
    Bytes(Result<Vec<u8>>),
    Names(Result<Vec<String>>),
    Stat(Result<(u32, u64, u32)>),
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + n) as u8).collect()
}

fn errno(e: std::io::Error) -> Errno {
    Errno(e.raw_os_error().unwrap_or(5) as u16)
}

fn on_host(top: &HostPath, op: &Op) -> Got {
    let p = |s: &String| top.join(s);
    // `join` drops nothing, but `Path` forgets a trailing slash in some calls: use C strings.
    let c = |s: &String| std::ffi::CString::new(format!("{}/{s}", top.to_str().unwrap())).unwrap();
    let open = |s: &String, o: &mut fs::OpenOptions| o.open(p(s)).map_err(errno);
    Got::Unit(match op {
        Op::Mkdir(s) => posix::mkdir(&c(s), 0o755),
        Op::Write(s, off, n) => open(s, fs::OpenOptions::new().write(true)).and_then(|f| {
            use std::os::unix::fs::FileExt;
            f.write_all_at(&bytes(*n), *off).map_err(errno)
        }),
        Op::Create(s, excl) => open(
            s,
            fs::OpenOptions::new()
                .write(true)
                .mode(0o644)
                .create(true)
                .create_new(*excl)
                .truncate(!*excl),
        )
        .map(|_| ()),
        Op::Append(s, n) => open(s, fs::OpenOptions::new().append(true)).and_then(|mut f| {
            use std::io::Write;
            f.write_all(&bytes(*n)).map_err(errno)
        }),
        Op::Truncate(s, n) => posix::truncate(&c(s), *n),
        Op::Unlink(s) => posix::unlink(&c(s)),
        Op::Rmdir(s) => posix::rmdir(&c(s)),
        Op::Rename(a, b, f) => posix::rename(&c(a), &c(b), *f),
        Op::Link(a, b) => posix::link(&c(a), &c(b)),
        Op::Symlink(t, s) => {
            let t = std::ffi::CString::new(t.as_str()).unwrap();
            posix::symlink(&t, &c(s))
        }
        Op::Chmod(s, m) => fs::set_permissions(p(s), fs::Permissions::from_mode(*m)).map_err(errno),
        Op::Read(s) => return Got::Bytes(fs::read(p(s)).map_err(errno)),
        Op::List(s) => {
            return Got::Names(fs::read_dir(p(s)).map_err(errno).map(|d| {
                let mut v: Vec<String> = d
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect();
                v.sort();
                v
            }));
        }
        Op::Stat(s) => {
            return Got::Stat(fs::symlink_metadata(p(s)).map_err(errno).map(|m| {
                let size = if m.is_dir() { 0 } else { m.size() };
                let nlink = if m.is_dir() { 0 } else { m.nlink() as u32 };
                (m.mode(), size, nlink)
            }));
        }
        Op::Forget => Ok(()),
    })
}

fn on_vfs(t: &Proc, op: &Op) -> Got {
    Got::Unit(match op {
        Op::Mkdir(s) => t.mkdir(s),
        Op::Write(s, off, n) => t.open(s, OpenFlags::WRONLY).and_then(|f| {
            let data = bytes(*n);
            let k = f.write_at(&t.cx, *off, &mut SliceSource::new(&data))?;
            assert_eq!(k, *n);
            Ok(())
        }),
        Op::Create(s, excl) => t
            .open(
                s,
                OpenFlags::WRONLY
                    | OpenFlags::CREAT
                    | if *excl {
                        OpenFlags::EXCL
                    } else {
                        OpenFlags::TRUNC
                    },
            )
            .map(|_| ()),
        Op::Append(s, n) => t
            .open(s, OpenFlags::WRONLY | OpenFlags::APPEND)
            .and_then(|f| {
                let data = bytes(*n);
                assert_eq!(f.write(&t.cx, &mut SliceSource::new(&data))?, *n);
                Ok(())
            }),
        Op::Truncate(s, n) => t
            .find(s)
            .and_then(|p| t.walk().set_attr(&p, Change::Size(*n))),
        Op::Unlink(s) => t.unlink(s),
        Op::Rmdir(s) => t.rmdir(s),
        Op::Rename(a, b, f) => t.rename(a, b, *f),
        Op::Link(a, b) => t.link(a, b),
        Op::Symlink(x, s) => t.symlink(x, s),
        Op::Chmod(s, m) => t
            .find(s)
            .and_then(|p| t.walk().set_attr(&p, Change::Mode(*m))),
        Op::Read(s) => return Got::Bytes(t.read_file(s)),
        Op::List(s) => return Got::Names(t.list(s)),
        Op::Stat(s) => {
            return Got::Stat(t.lstat(s).map(|a| {
                let dir = a.file_type() == vfs::FileType::Dir;
                (
                    a.mode,
                    if dir { 0 } else { a.size },
                    if dir { 0 } else { a.nlink },
                )
            }));
        }
        Op::Forget => {
            t.forget();
            Ok(())
        }
    })
}

/// Fills a directory with the tree that overlays start from.
fn populate(top: &HostPath) {
    for d in ["a", "a/b", "c", "c/d", "c/d/a"] {
        fs::create_dir(top.join(d)).unwrap();
    }
    for (f, n) in [
        ("a/a", 10),
        ("a/b/c", 6000),
        ("b", 20_000),
        ("c/d/a/b", 3),
        ("c/c", 0),
    ] {
        fs::write(top.join(f), bytes(n)).unwrap();
    }
    fs::hard_link(top.join("b"), top.join("c/b")).unwrap();
    fs::hard_link(top.join("b"), top.join("c/d/d")).unwrap();
    std::os::unix::fs::symlink("d/../c", top.join("c/a")).unwrap();
    std::os::unix::fs::symlink("a/b/c", top.join("d")).unwrap();
}

/// All of a tree as text.
fn dump(list: &mut dyn FnMut(&Op) -> Got, dir: &str, out: &mut Vec<String>) {
    let here = if dir.is_empty() { "." } else { dir };
    let names = match list(&Op::List(here.into())) {
        Got::Names(Ok(n)) => n,
        // A directory whose owner has taken his own rights.
        other => {
            out.push(format!("{here} {other:?}"));
            return;
        }
    };
    for n in names {
        let p = if dir.is_empty() {
            n
        } else {
            format!("{dir}/{n}")
        };
        let st = list(&Op::Stat(p.clone()));
        out.push(format!("{p} {st:?}"));
        if let Got::Stat(Ok((mode, ..))) = st {
            match mode & 0o170_000 {
                0o040_000 => dump(list, &p, out),
                0o100_000 => {
                    let c = list(&Op::Read(p));
                    out.push(format!("{c:?}"));
                }
                _ => {}
            }
        }
    }
}

fn compare(host: &HostPath, t: &Proc, ops: &[Op], after: &mut dyn FnMut()) {
    for (i, op) in ops.iter().enumerate() {
        let want = on_host(host, op);
        let got = on_vfs(t, op);
        assert_eq!(got, want, "operation {i}: {op:?}");
        after();
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    dump(&mut |op| on_host(host, op), "", &mut a);
    dump(&mut |op| on_vfs(t, op), "", &mut b);
    assert_eq!(b, a, "the trees differ at the end");
    t.forget();
    b.clear();
    dump(&mut |op| on_vfs(t, op), "", &mut b);
    assert_eq!(b, a, "the trees differ after the caches were dropped");
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|v| v.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(100),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tmpfs_is_like_the_host(ops in proptest::collection::vec(op(), 1..80)) {
        let dir = TempDir::new();
        let t = Proc::tmpfs().like_on_the_host();
        compare(&dir.0, &t, &ops, &mut || {});
    }

    #[test]
    fn overlay_is_like_the_host(ops in proptest::collection::vec(op(), 1..80)) {
        let (dir, lower) = (TempDir::new(), TempDir::new());
        populate(&dir.0);
        populate(&lower.0);
        let mut before = Vec::new();
        dump(&mut |op| on_host(&lower.0, op), "", &mut before);
        {
            let t = Proc::overlay(&lower.0).like_on_the_host();
            compare(&dir.0, &t, &ops, &mut || {});
        }
        let mut after = Vec::new();
        dump(&mut |op| on_host(&lower.0, op), "", &mut after);
        prop_assert_eq!(before, after, "the lower tree was changed");
    }

    #[test]
    fn writable_hostfs_is_like_the_host(ops in proptest::collection::vec(op(), 1..60)) {
        let (dir, real) = (TempDir::new(), TempDir::new());
        populate(&dir.0);
        populate(&real.0);
        {
            let t = Proc::new(host(&real.0, true)).like_on_the_host();
            compare(&dir.0, &t, &ops, &mut || {});
        }
        let (mut a, mut b) = (Vec::new(), Vec::new());
        dump(&mut |op| on_host(&dir.0, op), "", &mut a);
        dump(&mut |op| on_host(&real.0, op), "", &mut b);
        prop_assert_eq!(b, a, "what reached the host differs");
    }
}
