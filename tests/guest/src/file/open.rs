//! open(2), openat(2), openat2(2).

use crate::prelude::*;

pub fn open_missing() {
    say!("missing: {}", open("no", O_RDONLY));
    say!("missing dir: {}", open("no/file", RDWR));
    put("f", b"x");
    say!("file as dir: {}", open("f/x", O_RDONLY));
    say!("file with slash: {}", open("f/", O_RDONLY));
    say!("create with slash: {}", open("g/", RDWR));
    say!("file dot: {}", open("f/.", O_RDONLY));
    say!("empty: {}", open("", O_RDONLY));
    say!("root: {}", open("/", O_RDONLY).ok());
    say!("many slashes: {}", open("///tmp///", O_RDONLY).ok());
    say!(
        "bad pointer: {}",
        R::of(unsafe { libc::open(8 as *const _, O_RDONLY) } as i64)
    );
}

pub fn open_create() {
    say!("create: {}", open_mode("a", O_RDWR | O_CREAT, 0o640).ok());
    say!("{}", describe("a"));
    say!("again: {}", open_mode("a", O_RDWR | O_CREAT, 0o600).ok());
    say!("{}", describe("a"));
    say!("mode 0: {}", open_mode("z", O_RDWR | O_CREAT, 0).ok());
    say!("{}", describe("z"));
    let fd = open_mode("ro", O_RDWR | O_CREAT | O_EXCL, 0o444).fd();
    say!("write to new 0444 file: {}", write(fd, b"abc"));
    say!("{}", describe("ro"));
    say!(
        "creat bits: {}",
        open_mode("bits", O_WRONLY | O_CREAT, 0o7777).ok()
    );
    say!("{}", describe("bits"));
    say!(
        "rdonly create: {}",
        open_mode("rc", O_RDONLY | O_CREAT, 0o600).ok()
    );
    say!("{}", ls("."));
}

pub fn open_excl() {
    say!("new: {}", open("a", RDWR | O_EXCL).ok());
    say!("old: {}", open("a", RDWR | O_EXCL));
    symlink("a", "s");
    symlink("nowhere", "d");
    say!("link to file: {}", open("s", RDWR | O_EXCL));
    say!("dangling: {}", open("d", RDWR | O_EXCL));
    mkdir("dir");
    say!("dir: {}", open("dir", RDWR | O_EXCL));
    say!("excl without creat: {}", open("a", O_RDWR | O_EXCL).ok());
    say!("dangling without excl: {}", open("d", RDWR).ok());
    say!("{}", describe("nowhere"));
}

pub fn open_trunc() {
    put("a", b"content");
    let r = open("a", O_RDONLY).fd();
    say!("trunc: {}", open("a", O_WRONLY | O_TRUNC).ok());
    say!("old reader: {}", read(r, 10));
    say!("{}", describe("a"));
    put("b", b"content");
    chmod("b", 0o444);
    if is_root() {
        say!("trunc of 0444 as root or EACCES: fine");
    } else {
        say!(
            "trunc of 0444 as root or EACCES: {}",
            if open("b", O_WRONLY | O_TRUNC).err() == EACCES {
                "fine"
            } else {
                "bad"
            }
        );
    }
    mkdir("d");
    say!("trunc dir: {}", open("d", O_WRONLY | O_TRUNC));
    say!("trunc dir rdonly: {}", open("d", O_RDONLY | O_TRUNC));
}

pub fn open_directory() {
    mkdir("d");
    put("f", b"");
    symlink("d", "sd");
    say!("dir: {}", open("d", O_RDONLY | O_DIRECTORY).ok());
    say!("file: {}", open("f", O_RDONLY | O_DIRECTORY));
    say!("link to dir: {}", open("sd", O_RDONLY | O_DIRECTORY).ok());
    say!(
        "link to dir, nofollow: {}",
        open("sd", O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    );
    say!("dir for write: {}", open("d", O_WRONLY));
    say!("dir rdwr: {}", open("d", O_RDWR));
    say!("dir create: {}", open("d", O_RDONLY | O_CREAT));
    let d = open("d", O_RDONLY).fd();
    say!("read dir: {}", read(d, 10));
    say!("write dir: {}", write(d, b"x"));
    say!(
        "mkdir by open: {}",
        open("new", O_RDWR | O_CREAT | O_DIRECTORY)
    );
    say!("{}", ls("."));
}

pub fn open_nofollow() {
    put("f", b"x");
    symlink("f", "s");
    mkdir("d");
    put("d/g", b"y");
    symlink("d", "sd");
    say!("link: {}", open("s", O_RDONLY | O_NOFOLLOW));
    say!("file: {}", open("f", O_RDONLY | O_NOFOLLOW).ok());
    say!(
        "link inside the path: {}",
        open("sd/g", O_RDONLY | O_NOFOLLOW).ok()
    );
    say!("path|nofollow: {}", open("s", O_PATH | O_NOFOLLOW).ok());
    let p = open("s", O_PATH | O_NOFOLLOW).fd();
    say!("is {}", kind(fstat(p).st_mode));
    let mut b = [0u8; 16];
    let r = sys!(readlinkat(p, c"".as_ptr(), b.as_mut_ptr().cast(), 16));
    say!("readlinkat empty: {r} {}", show(&b[..r.0.max(0) as usize]));
}

pub fn open_path() {
    put("f", b"hello");
    let p = open("f", O_PATH).fd();
    say!("read: {}", read(p, 5));
    say!("write: {}", write(p, b"x"));
    say!("fchmod: {}", sys!(fchmod(p, 0o600)));
    say!("ftruncate: {}", sys!(ftruncate(p, 0)));
    say!("lseek: {}", sys!(lseek(p, 0, SEEK_SET)));
    say!("fstat size: {}", fstat(p).st_size);
    say!("dup: {}", sys!(dup(p)).ok());
    say!("flags: {:#x}", sys!(fcntl(p, F_GETFL)).0 & O_PATH as i64);
    say!(
        "mmap: {}",
        sys!(mmap(
            std::ptr::null_mut(),
            4096,
            PROT_READ,
            MAP_PRIVATE,
            p,
            0
        ))
    );
    say!("ioctl: {}", sys!(ioctl(p, FIONREAD as _, &mut 0i32)));
    let again = format!("/proc/self/fd/{p}");
    let q = open(&again, O_RDONLY).fd();
    say!("reopened: {}", read(q, 10));
    mkdir("d");
    put("d/x", b"in d");
    let d = open("d", O_PATH | O_DIRECTORY).fd();
    say!("openat: {}", sys!(openat(d, c"x".as_ptr(), O_RDONLY)).ok());
    say!("fchdir: {}", sys!(fchdir(d)));
    say!("now here: {}", ls("."));
}

pub fn open_tmpfile() {
    let fd = open_mode(".", O_TMPFILE | O_RDWR, 0o600).fd();
    say!("write: {}", write(fd, b"hidden"));
    say!("links: {}", fstat(fd).st_nlink);
    say!("{}", ls("."));
    let name = cs(&format!("/proc/self/fd/{fd}"));
    say!(
        "linkat: {}",
        sys!(linkat(
            AT_FDCWD,
            name.as_ptr(),
            AT_FDCWD,
            c"shown".as_ptr(),
            AT_SYMLINK_FOLLOW
        ))
    );
    say!("{} {}", describe("shown"), get("shown"));
    say!("read only: {}", open_mode(".", O_TMPFILE | O_RDONLY, 0o600));
    say!("missing: {}", open_mode("no", O_TMPFILE | O_RDWR, 0o600));
    let ex = open_mode(".", O_TMPFILE | O_RDWR | O_EXCL, 0o600).fd();
    let name = cs(&format!("/proc/self/fd/{ex}"));
    say!(
        "linkat of excl: {}",
        sys!(linkat(
            AT_FDCWD,
            name.as_ptr(),
            AT_FDCWD,
            c"no".as_ptr(),
            AT_SYMLINK_FOLLOW
        ))
    );
}

pub fn open_names() {
    let ok = "n".repeat(255);
    let long = "n".repeat(256);
    say!("255: {}", open(&ok, RDWR).ok());
    say!("256: {}", open(&long, RDWR));
    say!(
        "path 4095: {}",
        open(&format!("{}f", "./".repeat(2047)), RDWR).ok()
    );
    say!(
        "path 4096: {}",
        open(&format!("{}ff", "./".repeat(2047)), RDWR)
    );
    for n in [
        " ",
        "a b",
        "tab\there",
        "new\nline",
        "ünïcode",
        "-dash",
        "*",
        "back\\slash",
        "...",
        ".hid",
    ] {
        say!("{n:?}: {}", open(n, RDWR).ok());
    }
    let bytes = std::ffi::CString::new(vec![0xff, 0xfe, 1, 0x80]).unwrap();
    say!(
        "not utf-8: {}",
        sys!(open(bytes.as_ptr(), RDWR, 0o644)).ok()
    );
    let n = std::fs::read_dir(".").unwrap().count();
    say!("entries {n}");
}

pub fn open_modes() {
    put("f", b"12345");
    let r = open("f", O_RDONLY).fd();
    let w = open("f", O_WRONLY).fd();
    let rw = open("f", O_RDWR).fd();
    say!("write to r: {}", write(r, b"x"));
    say!("read from w: {}", read(w, 1));
    say!("rw: {} {}", write(rw, b"A"), read(rw, 10));
    let three = open("f", 3).fd();
    say!(
        "mode 3: read {} write {}",
        read(three, 1),
        write(three, b"x")
    );
    for (n, fd) in [("r", r), ("w", w), ("rw", rw)] {
        say!(
            "{n} flags {}",
            sys!(fcntl(fd, F_GETFL)).0 & O_ACCMODE as i64
        );
    }
    say!("ftruncate r: {}", sys!(ftruncate(r, 0)));
    say!("fallocate r: {}", sys!(fallocate(r, 0, 0, 10)));
}

pub fn openat_base() {
    mkdir("d");
    put("d/f", b"deep");
    put("f", b"shallow");
    let d = open("d", O_RDONLY | O_DIRECTORY).fd();
    let f = open("f", O_RDONLY).fd();
    let at = |base, p: &str, fl| {
        let p = cs(p);
        sys!(openat(base, p.as_ptr(), fl, 0o644))
    };
    say!("in d: {}", read(at(d, "f", O_RDONLY).fd(), 10));
    say!("cwd: {}", read(at(AT_FDCWD, "f", O_RDONLY).fd(), 10));
    say!("dotdot: {}", read(at(d, "../f", O_RDONLY).fd(), 10));
    say!("file as base: {}", at(f, "x", O_RDONLY));
    say!("bad base: {}", at(777, "x", O_RDONLY));
    say!("bad base, absolute: {}", at(777, "/", O_RDONLY).ok());
    say!("empty: {}", at(d, "", O_RDONLY));
    rename("d", "moved");
    say!("after rename: {}", read(at(d, "f", O_RDONLY).fd(), 10));
    say!("create: {}", at(d, "new", RDWR).ok());
    say!("{}", ls("moved"));
    unlink("moved/f");
    unlink("moved/new");
    rmdir("moved");
    say!("in removed dir: {}", at(d, "x", RDWR));
    say!(
        "mkdirat removed: {}",
        sys!(mkdirat(d, c"y".as_ptr(), 0o755))
    );
}

pub fn openat2_resolve() {
    let o2 = |base: i32, p: &str, flags: i32, mode: u64, resolve: u64| {
        let how: [u64; 3] = [flags as u64, mode, resolve];
        let p = cs(p);
        raw!(SYS_openat2, base, p.as_ptr(), how.as_ptr(), 24)
    };
    mkdir("d");
    put("d/f", b"f");
    symlink("f", "d/s");
    symlink("/etc", "d/abs");
    symlink("../outside", "d/up");
    put("outside", b"o");
    let d = open("d", O_PATH).fd();
    say!("plain: {}", o2(d, "f", O_RDONLY, 0, 0).ok());
    say!("beneath: {}", o2(d, "f", O_RDONLY, 0, RESOLVE_BENEATH).ok());
    say!(
        "beneath up: {}",
        o2(d, "../outside", O_RDONLY, 0, RESOLVE_BENEATH)
    );
    say!(
        "beneath link up: {}",
        o2(d, "up", O_RDONLY, 0, RESOLVE_BENEATH)
    );
    say!(
        "beneath abs link: {}",
        o2(d, "abs", O_RDONLY, 0, RESOLVE_BENEATH)
    );
    say!(
        "beneath absolute: {}",
        o2(d, "/etc", O_RDONLY, 0, RESOLVE_BENEATH)
    );
    say!(
        "in root absolute: {}",
        o2(d, "/f", O_RDONLY, 0, RESOLVE_IN_ROOT).ok()
    );
    say!(
        "in root up: {}",
        o2(d, "../../f", O_RDONLY, 0, RESOLVE_IN_ROOT).ok()
    );
    say!(
        "in root abs link: {}",
        o2(d, "abs", O_RDONLY, 0, RESOLVE_IN_ROOT)
    );
    say!(
        "no symlinks: {}",
        o2(d, "s", O_RDONLY, 0, RESOLVE_NO_SYMLINKS)
    );
    say!(
        "no xdev: {}",
        o2(AT_FDCWD, "/proc/self", O_RDONLY, 0, RESOLVE_NO_XDEV)
    );
    say!(
        "no magic: {}",
        o2(
            AT_FDCWD,
            "/proc/self/exe",
            O_RDONLY,
            0,
            RESOLVE_NO_MAGICLINKS
        )
    );
    say!("mode without creat: {}", o2(d, "f", O_RDONLY, 0o644, 0));
    say!("bad mode: {}", o2(d, "n", RDWR, 0o17777, 0));
    say!("bad resolve: {}", o2(d, "f", O_RDONLY, 0, 1 << 40));
    say!("bad flags: {}", o2(d, "f", 0x4000_0000, 0, 0));
    let how = [0u64; 4];
    say!(
        "small size: {}",
        raw!(SYS_openat2, d, c"f".as_ptr(), how.as_ptr(), 16)
    );
    say!(
        "larger size, zero: {}",
        raw!(SYS_openat2, d, c"f".as_ptr(), how.as_ptr(), 32).ok()
    );
    let how = [0u64, 0, 0, 1];
    say!(
        "larger size, set: {}",
        raw!(SYS_openat2, d, c"f".as_ptr(), how.as_ptr(), 32)
    );
}

pub fn no_descriptor_left() {
    let l = rlimit {
        rlim_cur: 8,
        rlim_max: 8,
    };
    sys!(setrlimit(RLIMIT_NOFILE, &l)).v();
    put("full", b"content");
    while !sys!(dup(1)).failed() {}
    say!("create {}", open_mode("new", O_CREAT | O_RDWR, 0o600));
    say!("truncate {}", open("full", O_TRUNC | O_WRONLY));
    say!("path {} {}", open("", O_RDONLY), open("absent", O_RDONLY));
    say!("flags {}", open_mode("new", O_CREAT | O_DIRECTORY, 0o600));
    close(5);
    say!("there {} {}", ls("."), get("full"));
}
