//! Directories: making, removing, listing, the working directory.

use crate::prelude::*;

tests![
    mkdir_errors,
    rmdir_errors,
    unlink_dirs,
    getdents_entries,
    getdents_rewind,
    getdents_small,
    getdents_changing,
    cwd_basic,
    cwd_removed,
    fchdir_errors,
    deep_tree,
    many_entries,
    nlink_of_dirs,
    dot_entries,
    chroot_view,
    mkdirat_modes,
    telldir_like,
];

fn mkdir_errors() {
    say!("new: {}", mkdir("d"));
    say!("again: {}", mkdir("d"));
    put("f", b"");
    say!("file exists: {}", mkdir("f"));
    say!("below file: {}", mkdir("f/x"));
    say!("below missing: {}", mkdir("no/x"));
    say!("trailing slash: {}", mkdir("e/"));
    say!("trailing slashes: {}", mkdir("g///"));
    say!("dot: {}", mkdir("."));
    say!("dotdot: {}", mkdir(".."));
    say!("d/.: {}", mkdir("d/."));
    say!("d/..: {}", mkdir("d/.."));
    say!("new/.: {}", mkdir("new/."));
    say!("root: {}", mkdir("/"));
    say!("empty: {}", mkdir(""));
    symlink("nowhere", "s");
    say!("over dangling: {}", mkdir("s"));
    say!("over dangling with slash: {}", mkdir("s/"));
    say!("long: {}", mkdir(&"x".repeat(256)));
    say!("{}", ls("."));
}

fn rmdir_errors() {
    mkdir("d");
    mkdir("d/e");
    put("f", b"");
    symlink("d", "s");
    say!("not empty: {}", rmdir("d"));
    say!("file: {}", rmdir("f"));
    say!("missing: {}", rmdir("no"));
    say!("link: {}", rmdir("s"));
    say!("link with slash: {}", rmdir("s/"));
    say!("dot: {}", rmdir("."));
    say!("d/.: {}", rmdir("d/."));
    say!("d/e/..: {}", rmdir("d/e/.."));
    say!("dotdot: {}", rmdir(".."));
    say!("root: {}", rmdir("/"));
    say!("empty path: {}", rmdir(""));
    say!("below file: {}", rmdir("f/x"));
    say!("inner: {}", rmdir("d/e/"));
    say!("outer: {}", rmdir("d"));
    say!("{}", ls("."));
}

fn unlink_dirs() {
    mkdir("d");
    put("f", b"");
    say!("dir: {}", unlink("d"));
    say!("file with slash: {}", unlink("f/"));
    say!("dir with slash: {}", unlink("d/"));
    say!("missing: {}", unlink("no"));
    say!("dot: {}", unlink("."));
    say!("empty: {}", unlink(""));
    say!(
        "unlinkat REMOVEDIR file: {}",
        sys!(unlinkat(AT_FDCWD, c"f".as_ptr(), AT_REMOVEDIR))
    );
    say!(
        "unlinkat REMOVEDIR: {}",
        sys!(unlinkat(AT_FDCWD, c"d".as_ptr(), AT_REMOVEDIR))
    );
    say!("file: {}", unlink("f"));
    say!("again: {}", unlink("f"));
    symlink("x", "s");
    say!("link: {}", unlink("s"));
    say!("{}", ls("."));
}

/// One getdents64 call: (name, type) pairs and the last offset.
fn dents(fd: i32, size: usize) -> Result<Vec<(String, u8, i64)>, R> {
    let mut b = vec![0u8; size];
    let r = raw!(SYS_getdents64, fd, b.as_mut_ptr(), size);
    if r.failed() {
        return Err(r);
    }
    let mut v = vec![];
    let mut at = 0;
    while at < r.0 as usize {
        let len = u16::from_ne_bytes([b[at + 16], b[at + 17]]) as usize;
        let off = i64::from_ne_bytes(b[at + 8..at + 16].try_into().unwrap());
        let name = &b[at + 19..at + len];
        let end = name.iter().position(|c| *c == 0).unwrap();
        v.push((
            String::from_utf8_lossy(&name[..end]).into_owned(),
            b[at + 18],
            off,
        ));
        if len % 8 != 0 {
            say!("record length {len}");
        }
        at += len;
    }
    Ok(v)
}

fn all(fd: i32, size: usize) -> Vec<(String, u8, i64)> {
    let mut v = vec![];
    loop {
        match dents(fd, size) {
            Ok(p) if p.is_empty() => return v,
            Ok(p) => v.extend(p),
            Err(e) => {
                say!("getdents: {e}");
                return v;
            }
        }
    }
}

fn getdents_entries() {
    put("file", b"");
    mkdir("dir");
    symlink("file", "link");
    sys!(mkfifo(c"fifo".as_ptr(), 0o600)).v();
    sys!(mknod(c"sock".as_ptr(), S_IFSOCK | 0o600, 0)).v();
    let fd = open(".", O_RDONLY).fd();
    let mut v = all(fd, 4096);
    v.sort();
    for (n, t, _) in &v {
        let name = match *t {
            DT_REG => "reg",
            DT_DIR => "dir",
            DT_LNK => "link",
            DT_FIFO => "fifo",
            DT_SOCK => "sock",
            _ => "other",
        };
        say!("{n}: {name}");
    }
    say!("at end: {:?}", dents(fd, 4096).map(|v| v.len()));
    let f = open("file", O_RDONLY).fd();
    say!("of file: {:?}", dents(f, 4096).map_err(|e| e.to_string()));
    say!(
        "of pipe: {:?}",
        dents(pipe()[0], 4096).map_err(|e| e.to_string())
    );
}

fn getdents_rewind() {
    for i in 0..20 {
        put(&format!("f{i:02}"), b"");
    }
    let fd = open(".", O_RDONLY).fd();
    let first = all(fd, 128);
    say!("{} entries in small steps", first.len());
    say!("rewind {}", sys!(lseek(fd, 0, SEEK_SET)));
    let second = all(fd, 32768);
    say!(
        "same {}",
        first.iter().map(|e| &e.0).eq(second.iter().map(|e| &e.0))
    );
    // Going back to a remembered offset continues there.
    let mid = &second[10];
    sys!(lseek(fd, mid.2, SEEK_SET)).v();
    let rest = all(fd, 32768);
    say!(
        "continues {}",
        rest.iter()
            .map(|e| &e.0)
            .eq(second[11..].iter().map(|e| &e.0))
    );
    let names: std::collections::BTreeSet<_> = second.iter().map(|e| e.0.clone()).collect();
    say!("distinct {}", names.len());
}

fn getdents_small() {
    put(&"n".repeat(200), b"");
    let fd = open(".", O_RDONLY).fd();
    for size in [0, 1, 18, 23] {
        say!(
            "{size}: {:?}",
            dents(fd, size).map(|v| v.len()).map_err(|e| e.to_string())
        );
    }
    let n = all(fd, 240).len();
    say!("240: {n}");
    sys!(lseek(fd, 0, SEEK_SET));
    let mut seen = 0;
    let e = loop {
        match dents(fd, 100) {
            Ok(v) if v.is_empty() => break R(0),
            Ok(v) => seen += v.len(),
            Err(e) => break e,
        }
    };
    say!("100: ends with {e} after at most 2: {}", seen <= 2);
}

fn getdents_changing() {
    for i in 0..300 {
        put(&format!("f{i:03}"), b"");
    }
    let fd = open(".", O_RDONLY).fd();
    let mut seen = std::collections::BTreeMap::new();
    let mut step = 0;
    loop {
        let v = dents(fd, 1024).unwrap();
        if v.is_empty() {
            break;
        }
        for (n, _, _) in v {
            // Removing what was seen must not make others disappear.
            if n.starts_with('f') {
                unlink(&n);
            }
            *seen.entry(n).or_insert(0) += 1;
        }
        step += 1;
        if step > 1000 {
            break;
        }
    }
    say!(
        "seen {} twice {}",
        seen.len(),
        seen.values().filter(|c| **c > 1).count()
    );
    say!("left {}", ls("."));
}

fn cwd() -> String {
    let mut b = [0u8; 4096];
    let r = raw!(SYS_getcwd, b.as_mut_ptr(), 4096);
    if r.failed() {
        r.to_string()
    } else {
        String::from_utf8_lossy(&b[..r.0 as usize - 1]).into_owned()
    }
}

fn chdir_to(p: &str) -> R {
    let p = cs(p);
    sys!(chdir(p.as_ptr()))
}

fn cwd_basic() {
    let start = cwd();
    let below = |s: String| {
        s.strip_prefix(&start)
            .map_or("outside".to_string(), |r| format!("<start>{r}"))
    };
    mkdir("a");
    mkdir("a/b");
    put("f", b"");
    symlink("a/b", "s");
    say!("{} {}", chdir_to("a/b"), below(cwd()));
    say!("{} {}", chdir_to(".."), below(cwd()));
    say!("{} {}", chdir_to("../s"), below(cwd()));
    say!("missing {} file {}", chdir_to("no"), chdir_to("../../f"));
    say!("{} {}", chdir_to("/"), cwd());
    say!("{} {}", chdir_to("/usr/../proc/./self/.."), cwd());
    say!("small buffer {}", {
        let mut b = [0u8; 3];
        raw!(SYS_getcwd, b.as_mut_ptr(), 3)
    });
    let _ = chdir_to(&start);
    rename("a", "z");
    chdir_to("z/b");
    say!("{}", below(cwd()));
    rename("../../z", "../../y");
    say!("renamed under us {}", below(cwd()));
    let st = run(|| {
        chdir_to("/");
        0
    });
    say!("{st} child's cd is its own: {}", below(cwd()));
    let link = std::fs::read_link("/proc/self/cwd").unwrap();
    say!("proc {}", below(link.to_string_lossy().into_owned()));
}

fn cwd_removed() {
    mkdir("d");
    chdir_to("d");
    say!("rmdir ../d {}", rmdir("../d"));
    say!("getcwd {}", cwd());
    say!("create {}", open("x", RDWR));
    say!("mkdir {}", mkdir("x"));
    say!("stat . {}", describe(".").starts_with("dir"));
    say!("list {}", ls("."));
    say!("stat .. {}", describe("..").starts_with("dir"));
    say!("cd .. {}", chdir_to(".."));
    say!("getcwd {}", cwd().contains("guest-"));
    say!("link {}", {
        mkdir("e");
        chdir_to("e");
        rmdir("../e");
        std::fs::read_link("/proc/self/cwd")
            .unwrap()
            .to_string_lossy()
            .ends_with("/e (deleted)")
    });
}

fn fchdir_errors() {
    put("f", b"");
    mkdir("d");
    let f = open("f", O_RDONLY).fd();
    let d = open("d", O_RDONLY).fd();
    say!(
        "file {} bad {} dir {}",
        sys!(fchdir(f)),
        sys!(fchdir(-1)),
        sys!(fchdir(d))
    );
    say!("pipe {}", sys!(fchdir(pipe()[0])));
    say!("{}", cwd().ends_with("/d"));
    mkdir("locked");
    chmod("locked", 0o000);
    let l = chdir_to("locked");
    say!(
        "no search right: {}",
        if is_root() {
            l.failed().to_string()
        } else {
            (l.err() != EACCES).to_string()
        }
    );
}

fn deep_tree() {
    let mut ok = 0;
    for _ in 0..200 {
        if !mkdir("d").failed() && !chdir_to("d").failed() {
            ok += 1;
        }
    }
    say!("levels {ok}");
    put("bottom", b"found");
    say!("length {}", cwd().len() > 400);
    for _ in 0..200 {
        chdir_to("..");
    }
    let path = format!("{}bottom", "d/".repeat(200));
    say!("{}", get(&path));
    let far = format!("{}{}bottom", "d/".repeat(200), "../d/".repeat(10));
    say!("{}", get(&far));
    say!("too long {}", open(&"d/".repeat(2050), O_RDONLY));
    unlink(&path);
    let mut removed = 0;
    for n in (1..=200).rev() {
        removed += !rmdir(&"d/".repeat(n)).failed() as i32;
    }
    say!("removed {removed}");
}

fn many_entries() {
    mkdir("d");
    for i in 0..2000 {
        put(&format!("d/entry-{i}"), b"");
    }
    let n = std::fs::read_dir("d").unwrap().count();
    say!("entries {n}");
    let mut good = 0;
    for i in (0..2000).step_by(7) {
        good += (!unlink(&format!("d/entry-{i}")).failed()) as i32;
    }
    say!(
        "unlinked {good} left {}",
        std::fs::read_dir("d").unwrap().count()
    );
    say!(
        "missing one {} present one {}",
        describe("d/entry-7"),
        describe("d/entry-8")
    );
    say!("not empty {}", rmdir("d"));
    std::fs::remove_dir_all("d").unwrap();
    say!("{}", ls("."));
}

fn nlink_of_dirs() {
    mkdir("d");
    say!("{}", kind(stat("d").unwrap().st_mode));
    let base = stat("d").unwrap().st_nlink;
    mkdir("d/a");
    mkdir("d/b");
    put("d/f", b"");
    say!("two more {}", stat("d").unwrap().st_nlink - base);
    rmdir("d/a");
    say!("one more {}", stat("d").unwrap().st_nlink - base);
    rename("d/b", "b");
    say!("none more {}", stat("d").unwrap().st_nlink - base);
}

fn dot_entries() {
    mkdir("d");
    mkdir("d/e");
    let ino = |p: &str| stat(p).unwrap().st_ino;
    say!(
        ". {} .. {} deep {}",
        ino("d/.") == ino("d"),
        ino("d/..") == ino("."),
        ino("d/e/../../d/e") == ino("d/e")
    );
    rename("d/e", "e");
    say!("moved .. {}", ino("e/..") == ino("."));
    let fd = open("e", O_RDONLY).fd();
    let v = all(fd, 1024);
    say!(
        "{:?}",
        v.iter()
            .map(|e| e.0.as_str())
            .collect::<std::collections::BTreeSet<_>>()
    );
    say!("inode of . {}", v.len() == 2);
}

fn chroot_view() {
    if !is_root() {
        say!("{}", sys!(chroot(c".".as_ptr())));
        return skip_root();
    }
    mkdir("jail");
    mkdir("jail/in");
    put("jail/in/f", b"inside");
    put("outside", b"no");
    symlink("/in/f", "jail/abs");
    let st = run(|| {
        say!("chroot file {}", sys!(chroot(c"outside".as_ptr())));
        say!("chroot missing {}", sys!(chroot(c"nothing".as_ptr())));
        say!("EPERM");
        sys!(chroot(c"jail".as_ptr())).v();
        say!(
            "cwd outside root reads (unreachable) {}",
            cwd().starts_with("(unreachable)")
        );
        chdir_to("/");
        say!("{} {}", cwd(), ls("/"));
        say!("{} {}", get("/abs"), get("/in/../../../in/f"));
        say!("{}", get("../outside"));
        0
    });
    say!("{st} {}", get("outside"));
}

fn mkdirat_modes() {
    unsafe { umask(0) };
    for m in [0o777, 0o000, 0o1777, 0o2755, 0o4711] {
        let n = cs(&format!("d{m:o}"));
        say!("{}", sys!(mkdirat(AT_FDCWD, n.as_ptr(), m)));
        say!("{}", describe(n.to_str().unwrap()));
    }
    unsafe { umask(0o077) };
    mkdir("masked");
    say!("{}", describe("masked"));
    say!("bad base {}", sys!(mkdirat(99, c"x".as_ptr(), 0o755)));
}

fn telldir_like() {
    for i in 0..50 {
        put(&format!("t{i}"), b"");
    }
    unsafe {
        let d = opendir(c".".as_ptr());
        let mut names = vec![];
        let mut places = vec![];
        loop {
            places.push(telldir(d));
            let e = readdir(d);
            if e.is_null() {
                break;
            }
            names.push(std::ffi::CStr::from_ptr((*e).d_name.as_ptr()).to_owned());
        }
        say!("{}", names.len());
        let mut good = true;
        for i in (0..names.len()).rev() {
            seekdir(d, places[i]);
            let e = readdir(d);
            good &= !e.is_null()
                && std::ffi::CStr::from_ptr((*e).d_name.as_ptr()) == names[i].as_c_str();
        }
        say!("seekdir {good}");
        closedir(d);
    }
}
