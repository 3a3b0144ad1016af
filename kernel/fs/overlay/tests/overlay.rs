//! What only overlays and host directories do: copy-up, stable inodes, changes behind the kernel's back.

mod common;

use abi::Errno;
use common::*;
use mm::io::{SliceSink, SliceSource};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use vfs::OpenFlags as O;
use vfs::file::MmapBacking;
use vfs::namei::Change;

fn lower() -> TempDir {
    let t = TempDir::new();
    fs::create_dir(t.0.join("d")).unwrap();
    fs::write(t.0.join("d/f"), b"hello").unwrap();
    fs::write(t.0.join("d/g"), b"other").unwrap();
    fs::hard_link(t.0.join("d/f"), t.0.join("h")).unwrap();
    t
}

fn wait() {
    hal_fake::machine().advance(2 * hostfs::VALID_NS);
}

#[test]
fn numbers_stay() {
    let l = lower();
    let t = Proc::overlay(&l.0);
    let before = t.stat("/d/f").unwrap();
    assert_eq!(before.ino, fs::metadata(l.0.join("d/f")).unwrap().ino());
    assert_eq!((before.nlink, before.dev), (2, 30));
    let p = t.find("/d/f").unwrap();
    t.walk().set_attr(&p, Change::Mode(0o600)).unwrap();
    let f = t.open("/d/f", O::WRONLY | O::APPEND).unwrap();
    f.write(&t.cx, &mut SliceSource::new(b"!")).unwrap();
    drop((f, p));
    t.forget();
    let after = t.stat("/d/f").unwrap();
    assert_eq!((after.ino, after.dev, after.nlink), (before.ino, 30, 2));
    assert_eq!(after.mode & 0o777, 0o600);
    // The other name of the file shows the same.
    assert_eq!(t.read_file("/h").unwrap(), b"hello!");
    t.unlink("/d/f").unwrap();
    t.forget();
    assert_eq!(t.read_file("/h").unwrap(), b"hello!");
    assert_eq!(t.stat("/h").unwrap().nlink, 1);
    // A moved directory keeps its number and what is in it.
    let d = t.stat("/d").unwrap().ino;
    t.rename("/d", "/e", 0).unwrap();
    t.forget();
    assert_eq!(t.stat("/e").unwrap().ino, d);
    assert_eq!(t.list("/e").unwrap(), ["g"]);
    assert_eq!(t.read_file("/e/g").unwrap(), b"other");
    assert_eq!(t.stat("/d").err(), Some(Errno::ENOENT));
    assert_eq!(fs::read(l.0.join("d/f")).unwrap(), b"hello");
}

#[test]
fn copy_up_is_late() {
    let l = lower();
    let t = Proc::overlay(&l.0);
    let used = || {
        let s = vfs::namei::statfs(&t.find("/").unwrap()).unwrap();
        (s.blocks - s.bfree, s.files - s.ffree)
    };
    let (pages, inodes) = used();
    let r = t.open("/d/f", O::empty()).unwrap();
    let w = t.open("/d/f", O::RDWR).unwrap();
    t.list("/d").unwrap();
    assert_eq!(used(), (pages, inodes), "nothing is copied by opening");
    // Readers and private mappings use the lower pages.
    let lower_cache = match r.ops.mmap(&r, false).unwrap() {
        MmapBacking::Cache(c) => c,
        MmapBacking::Anon => panic!(),
    };
    assert!(Arc::ptr_eq(&lower_cache, &r.inode.page_cache().unwrap()));
    w.write_at(&t.cx, 0, &mut SliceSource::new(b"J")).unwrap();
    assert_eq!(used().0, pages + 1);
    // A description that was opened before sees the new contents.
    assert_eq!(read_all(&t.cx, &r).unwrap(), b"Jello");
    // O_TRUNC copies nothing.
    t.write_file("/d/g", b"").unwrap();
    assert_eq!(used().0, pages + 1);
    assert_eq!(t.read_file("/d/g").unwrap(), b"");
    assert_eq!(fs::read(l.0.join("d/f")).unwrap(), b"hello");
}

#[test]
fn listing_has_no_duplicates() {
    let l = TempDir::new();
    for i in 0..100 {
        fs::write(l.0.join(format!("{i:03}")), b"x").unwrap();
    }
    let t = Proc::overlay(&l.0);
    for i in 100..200 {
        t.write_file(&format!("/{i:03}"), b"y").unwrap();
    }
    let f = t.open("/", O::DIRECTORY).unwrap();
    let mut seen = Vec::new();
    loop {
        let mut names = Vec::new();
        let mut room = 3;
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
        for n in names.into_iter().filter(|n| !n.starts_with('.')) {
            // Changes what is met, which copies lower files up.
            let p = t.find(&format!("/{n}")).unwrap();
            t.walk().set_attr(&p, Change::Mode(0o600)).unwrap();
            seen.push(n);
        }
    }
    seen.sort();
    let want: Vec<String> = (0..200).map(|i| format!("{i:03}")).collect();
    assert_eq!(seen, want);
    assert_eq!(t.list("/").unwrap(), want);
}

#[test]
fn removed_and_made_again() {
    let l = lower();
    let t = Proc::overlay(&l.0);
    t.unlink("/d/f").unwrap();
    t.unlink("/d/g").unwrap();
    t.rmdir("/d").unwrap();
    t.mkdir("/d").unwrap();
    assert!(
        t.list("/d").unwrap().is_empty(),
        "the lower directory stays hidden"
    );
    t.write_file("/d/f", b"new").unwrap();
    t.forget();
    assert_eq!(t.read_file("/d/f").unwrap(), b"new");
    assert_eq!(t.read_file("/h").unwrap(), b"hello");
    assert_eq!(t.stat("/h").unwrap().nlink, 1);
}

#[test]
fn the_host_changes_things() {
    let l = lower();
    let t = Proc::overlay(&l.0);
    assert_eq!(t.read_file("/d/f").unwrap(), b"hello");
    assert_eq!(t.read_file("/d/new"), Err(Errno::ENOENT));
    assert_eq!(t.list("/d").unwrap(), ["f", "g"]);
    fs::write(l.0.join("d/f"), b"changed on the host").unwrap();
    fs::write(l.0.join("d/new"), b"new").unwrap();
    fs::remove_file(l.0.join("d/g")).unwrap();
    wait();
    assert_eq!(t.read_file("/d/f").unwrap(), b"changed on the host");
    assert_eq!(t.read_file("/d/new").unwrap(), b"new");
    assert_eq!(t.stat("/d/g").err(), Some(Errno::ENOENT));
    // What was changed inside does not go with the host's file.
    t.write_file("/d/f", b"inside").unwrap();
    fs::remove_file(l.0.join("d/f")).unwrap();
    wait();
    t.forget();
    assert_eq!(t.read_file("/d/f").unwrap(), b"inside");
    assert_eq!(t.list("/d").unwrap(), ["f", "new"]);
    // Replaced by a file of another kind, and a moved directory.
    fs::remove_file(l.0.join("d/new")).unwrap();
    fs::create_dir(l.0.join("d/new")).unwrap();
    fs::write(l.0.join("d/new/x"), b"x").unwrap();
    wait();
    assert_eq!(t.read_file("/d/new/x").unwrap(), b"x");
    fs::rename(l.0.join("d/new"), l.0.join("moved")).unwrap();
    wait();
    assert_eq!(t.read_file("/moved/x").unwrap(), b"x");
    assert_eq!(t.stat("/d/new").err(), Some(Errno::ENOENT));
}

#[test]
fn a_file_is_replaced_while_it_is_believed() {
    let l = lower();
    for t in [Proc::overlay(&l.0), Proc::new(host(&l.0, false))] {
        fs::write(l.0.join("x"), b"old").unwrap();
        t.stat("/x").unwrap();
        fs::write(l.0.join("y"), b"new").unwrap();
        fs::rename(l.0.join("y"), l.0.join("x")).unwrap();
        assert_eq!(t.read_file("/x").unwrap(), b"new");
    }
}

#[test]
fn what_the_host_refuses() {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        return;
    }
    let l = lower();
    fs::set_permissions(l.0.join("d/g"), fs::Permissions::from_mode(0o000)).unwrap();
    let t = Proc::overlay(&l.0);
    assert_eq!(t.open("/d/g", O::empty()).err(), Some(Errno::EACCES));
    assert_eq!(t.open("/d/g", O::RDWR).err(), Some(Errno::EACCES));
    assert!(t.open("/d/g", O::WRONLY | O::TRUNC).is_ok());
}

#[test]
fn read_only_trees_refuse() {
    let l = lower();
    let t = Proc::new(host(&l.0, false));
    assert_eq!(t.mkdir("/x"), Err(Errno::EROFS));
    assert_eq!(t.unlink("/h"), Err(Errno::EROFS));
    assert_eq!(t.open("/h", O::WRONLY).err(), Some(Errno::EROFS));
    assert_eq!(t.read_file("/h").unwrap(), b"hello");
}

#[test]
fn writable_trees_write_back() {
    let l = lower();
    let t = Proc::new(host(&l.0, true));
    let f = t.open("/d/f", O::RDWR).unwrap();
    let data = vec![5u8; 10_000];
    f.write(&t.cx, &mut SliceSource::new(&data)).unwrap();
    assert_eq!(t.stat("/d/f").unwrap().size, 10_000);
    f.ops.fsync(&f, false).unwrap();
    assert_eq!(fs::read(l.0.join("d/f")).unwrap(), data);
    f.write_at(&t.cx, 3, &mut SliceSource::new(b"abc")).unwrap();
    vfs::fdtable::close_file(f, 1);
    assert_eq!(
        &fs::read(l.0.join("d/f")).unwrap()[..7],
        b"\x05\x05\x05abc\x05"
    );
    // A file replaced on the host while it is known here.
    fs::write(l.0.join("d/tmp"), b"replaced").unwrap();
    fs::rename(l.0.join("d/tmp"), l.0.join("d/f")).unwrap();
    wait();
    assert_eq!(t.read_file("/d/f").unwrap(), b"replaced");
}

/// Prints what walks cost: `cargo test --release -p lodger-overlay --test overlay speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let l = lower();
    let time = |what: &str, n: u32, f: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        for _ in 0..n {
            f();
        }
        let ns = start.elapsed().as_nanos() / u128::from(n);
        println!("{what:40} {ns} ns");
    };
    let mut p = l.0.clone();
    for d in ["a", "b", "c", "d"] {
        p.push(d);
        fs::create_dir(&p).unwrap();
    }
    fs::write(p.join("file"), b"x").unwrap();
    let small = Proc::tmpfs();
    small.mkdir("/a").unwrap();
    small.mkdir("/a/b").unwrap();
    small.mkdir("/a/b/c").unwrap();
    small.mkdir("/a/b/c/d").unwrap();
    small.write_file("/a/b/c/d/file", b"x").unwrap();
    let over = Proc::overlay(&l.0);
    for (name, t) in [("tmpfs", &small), ("overlay", &over)] {
        time(&format!("{name}: stat /a/b/c/d/file"), 300_000, &mut || {
            t.stat("/a/b/c/d/file").unwrap();
        });
        time(&format!("{name}: stat /a"), 300_000, &mut || {
            t.stat("/a").unwrap();
        });
        time(&format!("{name}: stat /a/nope"), 300_000, &mut || {
            assert!(t.stat("/a/nope").is_err());
        });
        time(&format!("{name}: open+close file"), 100_000, &mut || {
            t.open("/a/b/c/d/file", O::empty()).unwrap();
        });
        let f = t.open("/a/b/c/d/file", O::RDWR).unwrap();
        let mut b = [0u8; 1];
        time(&format!("{name}: pread 1 byte"), 300_000, &mut || {
            f.read_at(&t.cx, 0, &mut SliceSink::new(&mut b)).unwrap();
        });
        time(&format!("{name}: pwrite 1 byte"), 300_000, &mut || {
            f.write_at(&t.cx, 0, &mut SliceSource::new(b"y")).unwrap();
        });
        time(&format!("{name}: create+unlink"), 100_000, &mut || {
            t.open("/a/b/tmp", O::CREAT | O::WRONLY).unwrap();
            t.unlink("/a/b/tmp").unwrap();
        });
    }
}
