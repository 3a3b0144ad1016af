//! What the man pages say of names, permissions, mounts, locks and events, on a tmpfs.

mod common;

use abi::Errno;
use common::*;
use mm::io::{SliceSink, SliceSource};
use std::sync::{Arc, Mutex, Weak};
use vfs::OpenFlags as O;
use vfs::locks::{self, LockKind, RangeLock};
use vfs::mount::MountFlags;
use vfs::namei::{Change, Touch, Walk, WalkFlags};
use vfs::notify::{Watcher, event};
use vfs::xattr::{self, On};
use vfs::{FdTable, File};

fn tree() -> Proc {
    let t = Proc::tmpfs();
    for d in ["/d", "/d/e", "/m", "/m2"] {
        t.mkdir(d).unwrap();
    }
    t.write_file("/d/f", b"hello").unwrap();
    t
}

#[test]
fn paths() {
    let t = tree();
    t.symlink("f", "/d/l").unwrap();
    t.symlink("/d", "/ld").unwrap();
    t.symlink("loop", "/loop").unwrap();
    assert_eq!(t.read_file("/ld/l").unwrap(), b"hello");
    assert_eq!(t.read_file("//d/./e/../f").unwrap(), b"hello");
    assert_eq!(t.read_file("/../../d/f").unwrap(), b"hello");
    assert_eq!(t.read_file("/loop"), Err(Errno::ELOOP));
    assert_eq!(t.read_file("/d/f/"), Err(Errno::ENOTDIR));
    assert_eq!(t.read_file("/d/f/x"), Err(Errno::ENOTDIR));
    assert_eq!(t.read_file("/nope/f"), Err(Errno::ENOENT));
    assert_eq!(t.read_file(""), Err(Errno::ENOENT));
    let long = "x".repeat(256);
    assert_eq!(t.read_file(&long), Err(Errno::ENAMETOOLONG));
    assert_eq!(t.read_file(&"x/".repeat(2100)), Err(Errno::ENAMETOOLONG));
    // 40 links are followed, 41 are not.
    t.symlink("/d/f", "/s0").unwrap();
    for i in 1..41 {
        t.symlink(&format!("/s{}", i - 1), &format!("/s{i}"))
            .unwrap();
    }
    assert!(t.read_file("/s39").is_ok());
    assert_eq!(t.read_file("/s40"), Err(Errno::ELOOP));
    // A trailing slash follows a link, for lstat as well.
    assert_eq!(t.lstat("/ld").unwrap().mode & 0o170_000, 0o120_000);
    assert_eq!(t.lstat("/ld/").unwrap().mode & 0o170_000, 0o040_000);
    assert_eq!(t.open("/d/l", O::NOFOLLOW).err(), Some(Errno::ELOOP));
    let l = t.open("/d/l", O::NOFOLLOW | O::PATH).unwrap();
    assert_eq!(l.inode.read_link().unwrap(), b"f");
}

#[test]
fn open_flags() {
    let t = tree();
    let open = |p: &str, f: O| t.open(p, f).map(|_| ());
    assert_eq!(open("/d/f", O::CREAT | O::EXCL), Err(Errno::EEXIST));
    assert_eq!(open("/d", O::CREAT), Err(Errno::EISDIR));
    assert_eq!(open("/", O::CREAT), Err(Errno::EISDIR));
    assert_eq!(open("/d/new/", O::CREAT), Err(Errno::EISDIR));
    assert_eq!(open("/d", O::WRONLY), Err(Errno::EISDIR));
    assert_eq!(open("/d/f", O::DIRECTORY), Err(Errno::ENOTDIR));
    assert_eq!(open("/d/e", O::CREAT | O::DIRECTORY), Err(Errno::EINVAL));
    // A dangling link is created through, but not with O_EXCL.
    t.symlink("target", "/d/dangling").unwrap();
    assert_eq!(
        open("/d/dangling", O::CREAT | O::EXCL | O::WRONLY),
        Err(Errno::EEXIST)
    );
    assert_eq!(open("/d/dangling", O::CREAT | O::WRONLY), Ok(()));
    assert!(t.stat("/d/target").is_ok());
    // O_TMPFILE, and its name later.
    assert_eq!(open("/d", O::TMPFILE | O::RDWR), Err(Errno::EINVAL));
    let f = t.open("/d", O::TMPFILE | O::DIRECTORY | O::RDWR).unwrap();
    f.write(&t.cx, &mut SliceSource::new(b"data")).unwrap();
    assert_eq!(f.inode.attr().unwrap().nlink, 0);
    t.walk()
        .link(f.path.as_ref().unwrap(), b"/d/named")
        .unwrap();
    assert_eq!(t.read_file("/d/named").unwrap(), b"data");
    let f = t
        .open("/d", O::TMPFILE | O::DIRECTORY | O::RDWR | O::EXCL)
        .unwrap();
    assert_eq!(
        t.walk().link(f.path.as_ref().unwrap(), b"/d/never"),
        Err(Errno::ENOENT)
    );
    // Access modes.
    let r = t.open("/d/f", O::empty()).unwrap();
    assert_eq!(
        r.write(&t.cx, &mut SliceSource::new(b"x")),
        Err(Errno::EBADF)
    );
    let w = t.open("/d/f", O::WRONLY | O::APPEND).unwrap();
    let mut b = [0; 4];
    assert_eq!(
        w.read(&t.cx, &mut SliceSink::new(&mut b)),
        Err(Errno::EBADF)
    );
    w.write(&t.cx, &mut SliceSource::new(b" world")).unwrap();
    assert_eq!(t.read_file("/d/f").unwrap(), b"hello world");
    // RLIMIT_FSIZE cuts, then refuses.
    let w = t.open("/d/f", O::WRONLY).unwrap();
    let n = w.write_limited(&t.cx, Some(8), &mut SliceSource::new(b"abcdef"), 10);
    assert_eq!(n, Ok(2));
    let n = w.write_limited(&t.cx, Some(10), &mut SliceSource::new(b"abcdef"), 10);
    assert_eq!(n, Err(Errno::EFBIG));
    assert_eq!(w.seek(-1, 0), Err(Errno::EINVAL));
    assert_eq!(w.seek(0, 2), Ok(11));
    assert_eq!(w.seek(4, 1), Ok(15));
}

#[test]
fn programs_are_not_written() {
    let t = tree();
    let p = t.find("/d/f").unwrap();
    t.walk().set_attr(&p, Change::Mode(0o755)).unwrap();
    let w = t.open("/d/f", O::WRONLY).unwrap();
    assert_eq!(t.walk().open_exec(&p).err(), Some(Errno::ETXTBSY));
    drop(w);
    let x = t.walk().open_exec(&p).unwrap();
    assert_eq!(t.open("/d/f", O::WRONLY).err(), Some(Errno::ETXTBSY));
    assert_eq!(t.walk().set_attr(&p, Change::Size(0)), Err(Errno::ETXTBSY));
    assert!(t.open("/d/f", O::empty()).is_ok());
    drop(x);
    assert!(t.open("/d/f", O::RDWR).is_ok());
    t.walk().set_attr(&p, Change::Mode(0o644)).unwrap();
    assert_eq!(t.walk().open_exec(&p).err(), Some(Errno::EACCES));
}

#[test]
fn permissions() {
    let t = tree();
    let u = t.as_user(1000);
    assert_eq!(u.mkdir("/d/x"), Err(Errno::EACCES));
    assert_eq!(u.open("/d/f", O::WRONLY).err(), Some(Errno::EACCES));
    assert!(u.open("/d/f", O::empty()).is_ok());
    assert_eq!(u.open("/d/f", O::NOATIME).err(), Some(Errno::EPERM));
    // Existence is said before permission.
    assert_eq!(u.mkdir("/d/e"), Err(Errno::EEXIST));
    // Search permission on the way.
    let d = t.find("/d").unwrap();
    t.walk().set_attr(&d, Change::Mode(0o700)).unwrap();
    assert_eq!(u.read_file("/d/f"), Err(Errno::EACCES));
    // The sticky bit.
    t.walk().set_attr(&d, Change::Mode(0o1777)).unwrap();
    assert_eq!(u.unlink("/d/f"), Err(Errno::EPERM));
    u.write_file("/d/mine", b"1").unwrap();
    assert_eq!(t.as_user(1001).unlink("/d/mine"), Err(Errno::EPERM));
    let mine = t.find("/d/mine").unwrap();
    assert_eq!(t.stat("/d/mine").unwrap().uid, 1000);
    // Owners.
    let set = |p: &Proc, c| p.walk().set_attr(&mine, c);
    assert_eq!(set(&u, Change::Owner(Some(0), None)), Err(Errno::EPERM));
    assert_eq!(set(&u, Change::Owner(Some(1000), Some(1000))), Ok(()));
    assert_eq!(set(&t.as_user(5), Change::Mode(0o777)), Err(Errno::EPERM));
    // Times: now needs write permission, others ownership.
    let other = t.as_user(5);
    assert_eq!(
        set(&other, Change::Times(Touch::Now, Touch::Now)),
        Err(Errno::EACCES)
    );
    assert_eq!(
        set(&other, Change::Times(Touch::At(1), Touch::Keep)),
        Err(Errno::EPERM)
    );
    assert_eq!(set(&other, Change::Times(Touch::Keep, Touch::Keep)), Ok(()));
    // Set-user-ID goes with a write by somebody else, and with chown.
    set(&t, Change::Mode(0o6777)).unwrap();
    let f = other.open("/d/mine", O::WRONLY).unwrap();
    f.write(&other.cx, &mut SliceSource::new(b"2")).unwrap();
    assert_eq!(t.stat("/d/mine").unwrap().mode & 0o7777, 0o777);
    set(&t, Change::Mode(0o6755)).unwrap();
    set(&t, Change::Owner(Some(1), None)).unwrap();
    assert_eq!(t.stat("/d/mine").unwrap().mode & 0o7777, 0o755);
    // Set-group-ID directories pass on their group.
    set(&t, Change::Mode(0o644)).unwrap();
    t.walk()
        .set_attr(&d, Change::Owner(None, Some(77)))
        .unwrap();
    t.walk().set_attr(&d, Change::Mode(0o2777)).unwrap();
    u.mkdir("/d/sub").unwrap();
    let a = t.stat("/d/sub").unwrap();
    assert_eq!((a.gid, a.mode & 0o7777), (77, 0o2755));
    // access(2).
    assert_eq!(u.walk().access(&mine, 2, false), Err(Errno::EACCES));
    assert_eq!(u.walk().access(&mine, 4, true), Ok(()));
    assert_eq!(t.walk().access(&mine, 1, false), Err(Errno::EACCES));
}

#[test]
fn names() {
    let t = tree();
    assert_eq!(t.unlink("/d"), Err(Errno::EISDIR));
    assert_eq!(t.unlink("/d/."), Err(Errno::EISDIR));
    assert_eq!(t.rmdir("/d/."), Err(Errno::EINVAL));
    assert_eq!(t.rmdir("/d/e/.."), Err(Errno::ENOTEMPTY));
    assert_eq!(t.rmdir("/"), Err(Errno::EBUSY));
    assert_eq!(t.rmdir("/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(t.rmdir("/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(t.link("/d", "/x"), Err(Errno::EPERM));
    assert_eq!(t.rename("/d", "/d/e/x", 0), Err(Errno::EINVAL));
    assert_eq!(t.rename("/d/e", "/d", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(t.rename("/d/.", "/x", 0), Err(Errno::EBUSY));
    assert_eq!(t.rename("/d", "/x", 8), Err(Errno::EINVAL));
    assert_eq!(t.rename("/d/f", "/d/e", 0), Err(Errno::EISDIR));
    assert_eq!(t.rename("/d/e", "/d/f", 0), Err(Errno::ENOTDIR));
    t.symlink("x", "/d/l").unwrap();
    assert_eq!(t.symlink("", "/d/l2"), Err(Errno::ENOENT));
    assert_eq!(t.stat("/d").unwrap().nlink, 3);
    // A working directory follows a move of the directory above it.
    t.fs.set_cwd(t.find("/d/e").unwrap());
    t.rename("/d", "/m/moved", 0).unwrap();
    let cwd = t.fs.cwd();
    assert_eq!(t.walk().name_of(&cwd), b"/m/moved/e");
    assert_eq!(t.read_file("../f").unwrap(), b"hello");
    t.rmdir("/m/moved/e").unwrap();
    assert_eq!(t.walk().name_of(&cwd), b"/m/moved/e (deleted)");
    assert_eq!(t.mkdir("x"), Err(Errno::ENOENT));
    assert_eq!(t.stat("..").unwrap().ino, t.stat("/m/moved").unwrap().ino);
    // chroot holds.
    t.fs.set_root(t.find("/m").unwrap());
    assert_eq!(t.find("/../../..").unwrap().dentry.name(), b"m".to_vec());
    assert_eq!(t.read_file("/moved/f").unwrap(), b"hello");
}

#[test]
fn scoped_walks() {
    let t = tree();
    t.symlink("/d/f", "/m/abs").unwrap();
    t.symlink("../d/f", "/m/rel").unwrap();
    t.write_file("/m/in", b"1").unwrap();
    let w = Walk {
        base: Some(t.find("/m").unwrap()),
        ..t.walk()
    };
    let go = |p: &str, f| w.lookup(p.as_bytes(), f | WalkFlags::FOLLOW).map(|_| ());
    assert_eq!(go("in", WalkFlags::BENEATH), Ok(()));
    assert_eq!(go("/in", WalkFlags::BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("../d", WalkFlags::BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("abs", WalkFlags::BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("rel", WalkFlags::BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("/in", WalkFlags::IN_ROOT), Ok(()));
    assert_eq!(go("../../in", WalkFlags::IN_ROOT), Ok(()));
    assert_eq!(go("abs", WalkFlags::IN_ROOT), Err(Errno::ENOENT));
    assert_eq!(go("rel", WalkFlags::NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(go("", WalkFlags::EMPTY), Ok(()));
}

#[test]
fn mounts() {
    let t = tree();
    let small = tmp(&tmpfs::Options {
        size: Some(64 << 10),
        ..tmpfs::Options::default()
    });
    let at = t.find("/m").unwrap();
    t.ns.mount(&at, small, b"small", MountFlags::NOSUID)
        .unwrap();
    t.write_file("/m/x", b"1").unwrap();
    assert_eq!(t.rename("/m/x", "/d/x", 0), Err(Errno::EXDEV));
    assert_eq!(t.link("/m/x", "/d/x"), Err(Errno::EXDEV));
    assert_eq!(t.rmdir("/m"), Err(Errno::EBUSY));
    assert_eq!(t.rename("/m", "/q", 0), Err(Errno::EBUSY));
    assert_eq!(t.stat("/m/..").unwrap().ino, t.stat("/").unwrap().ino);
    assert_eq!(t.walk().name_of(&t.find("/m/x").unwrap()), b"/m/x");
    // Full: what fits is written, then ENOSPC.
    let f = t.open("/m/big", O::CREAT | O::WRONLY).unwrap();
    let data = vec![7u8; 100 << 10];
    let n = f.write(&t.cx, &mut SliceSource::new(&data)).unwrap();
    assert!((48 << 10..=64 << 10).contains(&n), "{n}");
    assert_eq!(
        f.write(&t.cx, &mut SliceSource::new(&data)),
        Err(Errno::ENOSPC)
    );
    // What is there can be written over, and room comes back.
    assert_eq!(
        f.write_at(&t.cx, 0, &mut SliceSource::new(&data[..4096])),
        Ok(4096)
    );
    drop(f);
    t.unlink("/m/big").unwrap();
    t.forget();
    assert!(vfs::namei::statfs(&t.find("/m").unwrap()).unwrap().bfree >= 14);
    // Bind, read-only remount, list.
    t.ns.bind(&t.find("/m").unwrap(), &t.find("/m2").unwrap(), true)
        .unwrap();
    assert_eq!(t.read_file("/m2/x").unwrap(), b"1");
    t.ns.remount_bind(&t.find("/m2").unwrap(), MountFlags::RDONLY)
        .unwrap();
    assert_eq!(t.write_file("/m2/y", b"1"), Err(Errno::EROFS));
    assert_eq!(t.unlink("/m2/x"), Err(Errno::EROFS));
    assert_eq!(t.mkdir("/m2/x"), Err(Errno::EEXIST));
    assert!(t.write_file("/m/y", b"1").is_ok());
    let list = t.ns.list(&t.ns.root());
    let targets: Vec<_> = list.iter().map(|m| m.target.clone()).collect();
    assert_eq!(targets, [b"/".to_vec(), b"/m".to_vec(), b"/m2".to_vec()]);
    // Busy while something is open.
    let f = t.open("/m/x", O::empty()).unwrap();
    assert_eq!(
        t.ns.unmount(&t.find("/m").unwrap(), false),
        Err(Errno::EBUSY)
    );
    drop(f);
    t.ns.unmount(&t.find("/m").unwrap(), false).unwrap();
    assert_eq!(t.read_file("/m/x"), Err(Errno::ENOENT));
    // Moving, and detaching while in use.
    t.ns.move_mount(&t.find("/m2").unwrap(), &t.find("/m").unwrap())
        .unwrap();
    let f = t.open("/m/x", O::empty()).unwrap();
    t.ns.unmount(&t.find("/m").unwrap(), true).unwrap();
    assert_eq!(t.stat("/m/x").err(), Some(Errno::ENOENT));
    assert_eq!(read_all(&t.cx, &f).unwrap(), b"1");
    // The root cannot go.
    assert_eq!(
        t.ns.unmount(&t.find("/").unwrap(), false),
        Err(Errno::EBUSY)
    );
    assert_eq!(
        t.ns.unmount(&t.find("/d").unwrap(), false),
        Err(Errno::EINVAL)
    );
}

#[test]
fn pivot() {
    let t = tree();
    let at = t.find("/m").unwrap();
    t.ns.mount(
        &at,
        tmp(&tmpfs::Options::default()),
        b"new",
        MountFlags::empty(),
    )
    .unwrap();
    t.mkdir("/m/old").unwrap();
    let old = t.fs.root();
    let new = t.find("/m").unwrap();
    t.ns.pivot_root(&new, &t.find("/m/old").unwrap()).unwrap();
    t.fs.replace(&old, &new);
    assert_eq!(t.read_file("/old/d/f").unwrap(), b"hello");
    assert_eq!(t.list("/").unwrap(), ["old"]);
    let place = t.find("/old").unwrap();
    t.ns.unmount(&place, true).unwrap();
    assert_eq!(t.stat("/old/d").err(), Some(Errno::ENOENT));
}

#[test]
fn directories_can_be_changed_while_read() {
    let t = tree();
    for i in 0..500 {
        t.write_file(&format!("/d/e/{i:03}"), b"").unwrap();
    }
    let f = t.open("/d/e", O::DIRECTORY).unwrap();
    let mut seen = Vec::new();
    // Each entry is removed, or renamed, or has a sister made, as soon as it is met.
    loop {
        let mut names = Vec::new();
        let mut room = 7;
        f.read_dir(&t.cx, &mut |n, _, _, _| {
            if room == 0 {
                return false;
            }
            room -= 1;
            names.push(String::from_utf8(n.to_vec()).unwrap());
            true
        })
        .unwrap();
        if names.is_empty() {
            break;
        }
        for n in names.iter().filter(|n| !n.starts_with('.')) {
            let p = format!("/d/e/{n}");
            match seen.len() % 3 {
                0 => t.unlink(&p).unwrap(),
                1 => t.rename(&p, &format!("{p}-renamed"), 0).unwrap(),
                _ => t.write_file(&format!("{p}-new"), b"").unwrap(),
            }
            seen.push(n.clone());
        }
    }
    seen.sort();
    let want: Vec<String> = (0..500).map(|i| format!("{i:03}")).collect();
    assert_eq!(seen, want);
}

#[derive(Default)]
struct Log(Mutex<Vec<(i32, u32, Option<String>)>>);

impl Watcher for Log {
    fn event(&self, wd: i32, mask: u32, _cookie: u32, name: Option<&[u8]>) {
        let name = name.map(|n| String::from_utf8(n.to_vec()).unwrap());
        self.0.lock().unwrap().push((wd, mask, name));
    }
}

#[test]
fn events() {
    let t = tree();
    let log = Arc::new(Log::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&(log.clone() as Arc<dyn Watcher>));
    let w = vfs::notify::watch(&t.find("/d").unwrap(), 1, u32::MAX >> 8, weak).unwrap();
    t.write_file("/d/n", b"1").unwrap();
    t.rename("/d/n", "/d/o", 0).unwrap();
    t.unlink("/d/o").unwrap();
    t.mkdir("/d/sub").unwrap();
    let got: Vec<_> = std::mem::take(&mut *log.0.lock().unwrap());
    let want: Vec<(u32, &str)> = vec![
        (event::CREATE, "n"),
        (event::OPEN, "n"),
        (event::MODIFY, "n"),
        (event::CLOSE_WRITE, "n"),
        (event::MOVED_FROM, "n"),
        (event::MOVED_TO, "o"),
        (event::DELETE, "o"),
        (event::CREATE | event::ISDIR, "sub"),
    ];
    let got: Vec<(u32, String)> = got
        .into_iter()
        .map(|(_, m, n)| (m, n.unwrap_or_default()))
        .collect();
    let want: Vec<(u32, String)> = want.into_iter().map(|(m, n)| (m, n.to_string())).collect();
    assert_eq!(got, want);
    drop(w);
    t.unlink("/d/f").unwrap();
    assert!(log.0.lock().unwrap().is_empty());
}

fn lock(kind: LockKind, start: u64, end: u64, owner: usize) -> RangeLock {
    RangeLock {
        kind,
        start,
        end,
        owner,
        pid: owner as i32,
    }
}

#[test]
fn file_locks() {
    let t = tree();
    let f = t.open("/d/f", O::RDWR).unwrap();
    locks::set_range(&f, lock(LockKind::Write, 0, 9, 1), false).unwrap();
    assert_eq!(
        locks::set_range(&f, lock(LockKind::Read, 5, 5, 2), false),
        Err(Errno::EAGAIN)
    );
    let there = locks::get_range(&f, lock(LockKind::Read, 0, 100, 2)).unwrap();
    assert_eq!(there.map(|l| (l.start, l.end, l.pid)), Some((0, 9, 1)));
    assert_eq!(locks::list(t.ns.shared()).unwrap().len(), 1);
    // A waiter gets it when the range is free.
    let f2 = f.clone();
    let waiter =
        std::thread::spawn(move || locks::set_range(&f2, lock(LockKind::Write, 5, 5, 2), true));
    std::thread::sleep(std::time::Duration::from_millis(20));
    locks::set_range(&f, lock(LockKind::Unlock, 5, 9, 1), false).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
    // Two owners that would wait for each other.
    let f2 = f.clone();
    let waiter =
        std::thread::spawn(move || locks::set_range(&f2, lock(LockKind::Write, 0, 0, 2), true));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(
        locks::set_range(&f, lock(LockKind::Write, 5, 5, 1), true),
        Err(Errno::EDEADLK)
    );
    // Closing any descriptor of the file drops the owner's locks.
    vfs::fdtable::close_file(f.clone(), 1);
    assert_eq!(waiter.join().unwrap(), Ok(()));
    // flock(2) is by description.
    let a = t.open("/d/f", O::empty()).unwrap();
    let b = t.open("/d/f", O::empty()).unwrap();
    locks::flock(&a, LockKind::Write, false).unwrap();
    assert_eq!(locks::flock(&b, LockKind::Read, false), Err(Errno::EAGAIN));
    drop(a);
    locks::flock(&b, LockKind::Read, false).unwrap();
}

#[test]
fn descriptors() {
    let t = tree();
    let f = t.open("/d/f", O::empty()).unwrap();
    let table = FdTable::new();
    for i in 0..200 {
        assert_eq!(table.install(f.clone(), 0, 1024, i % 2 == 0), Ok(i));
    }
    assert_eq!(table.install(f.clone(), 0, 200, false), Err(Errno::EMFILE));
    table.remove(70).unwrap();
    table.remove(3).unwrap();
    assert_eq!(table.install(f.clone(), 10, 1024, false), Ok(70));
    assert_eq!(table.install(f.clone(), 0, 1024, false), Ok(3));
    assert_eq!(table.install(f.clone(), 500, 1024, false), Ok(500));
    assert_eq!(table.install(f.clone(), 0, 1024, false), Ok(200));
    let copy = table.duplicate().unwrap();
    let same = (0..1024).all(|n| copy.get(n).is_ok() == table.get(n).is_ok());
    assert!(same && copy.len() == 202);
    copy.close_cloexec(0);
    assert_eq!(copy.len(), table.len() - 99);
    assert!(table.get(-1).is_err() && table.get(i32::MAX).is_err());
    assert_eq!(
        table.install_at(f.clone(), 1024, 1024, false).err(),
        Some(Errno::EBADF)
    );
    assert!(
        table
            .install_at(f.clone(), 0, 1024, false)
            .unwrap()
            .is_some()
    );
    assert_eq!(table.len(), 202);
    table.close_all(0);
    assert!(table.is_empty());
    let p = t.open("/d/f", O::PATH).unwrap();
    let n = table.install(p, 0, 10, false).unwrap();
    assert!(table.get(n).is_ok() && table.get_io(n).is_err());
}

#[test]
fn extended_attributes() {
    let t = tree();
    let p = t.find("/d/f").unwrap();
    let on = On::Path(&p);
    xattr::set(&t.cx, on, b"user.a", b"1", 0).unwrap();
    xattr::set(&t.cx, on, b"trusted.b", b"2", 0).unwrap();
    assert_eq!(xattr::get(&t.cx, on, b"user.a").unwrap(), b"1");
    assert_eq!(
        xattr::set(&t.cx, on, b"user.a", b"1", 1),
        Err(Errno::EEXIST)
    );
    assert_eq!(
        xattr::set(&t.cx, on, b"user.z", b"1", 2),
        Err(Errno::ENODATA)
    );
    assert_eq!(
        xattr::get(&t.cx, on, b"system.posix_acl_access"),
        Err(Errno::EOPNOTSUPP)
    );
    let u = t.as_user(1000);
    assert_eq!(
        xattr::set(&u.cx, on, b"user.a", b"1", 0),
        Err(Errno::EACCES)
    );
    assert_eq!(xattr::get(&u.cx, on, b"trusted.b"), Err(Errno::ENODATA));
    assert_eq!(xattr::list(&u.cx, on).unwrap(), b"user.a\0");
    xattr::remove(&t.cx, on, b"user.a").unwrap();
    assert_eq!(xattr::remove(&t.cx, on, b"user.a"), Err(Errno::ENODATA));
}

#[test]
fn very_deep_trees_come_and_go() {
    let t = tree();
    t.mkdir("/deep").unwrap();
    t.fs.set_cwd(t.find("/deep").unwrap());
    for _ in 0..30_000 {
        t.mkdir("d").unwrap();
        t.fs.set_cwd(t.find("d").unwrap());
    }
    assert!(t.walk().name_of(&t.fs.cwd()).len() > 50_000);
    t.fs.set_cwd(t.find("/").unwrap());
    t.forget();
    drop(t);
}

#[test]
fn renames_and_walks_at_once() {
    let t = Arc::new(tree());
    t.write_file("/d/e/x", b"1").unwrap();
    let movers: Vec<_> = (0..2)
        .map(|i| {
            let t = t.clone();
            std::thread::spawn(move || {
                let (a, b) = [("/d/e", "/m/e"), ("/m", "/d/m")][i];
                for _ in 0..3000 {
                    let _ = t.rename(a, b, 0);
                    let _ = t.rename(b, a, 0);
                }
            })
        })
        .collect();
    let walkers: Vec<_> = (0..2)
        .map(|_| {
            let t = t.clone();
            std::thread::spawn(move || {
                for _ in 0..5000 {
                    let _ = t.stat("/d/e/x");
                    let _ = t.stat("/m/e/../e/x");
                    let _ = t.stat("/d/m/e/x");
                }
            })
        })
        .collect();
    for h in movers.into_iter().chain(walkers) {
        h.join().unwrap();
    }
    // Nothing was lost.
    let found = ["/d/e/x", "/m/e/x", "/d/m/e/x"]
        .iter()
        .filter(|p| t.stat(p).is_ok())
        .count();
    assert_eq!(found, 1);
}

#[test]
fn a_file_is_the_same_by_all_its_names() {
    let t = tree();
    t.link("/d/f", "/m/g").unwrap();
    let a = t.open("/d/f", O::RDWR).unwrap();
    let b: Arc<File> = t.open("/m/g", O::RDWR).unwrap();
    assert!(Arc::ptr_eq(&a.inode, &b.inode));
    t.unlink("/d/f").unwrap();
    a.write(&t.cx, &mut SliceSource::new(b"J")).unwrap();
    assert_eq!(t.read_file("/m/g").unwrap(), b"Jello");
}
