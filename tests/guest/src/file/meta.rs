//! stat, times, access, umask, special files.

use crate::prelude::*;

pub fn statx_fields() {
    put("f", b"12345");
    let mut x: statx = zero();
    let r = sys!(statx(AT_FDCWD, c"f".as_ptr(), 0, STATX_BASIC_STATS, &mut x));
    say!(
        "{r} {} {:04o} size {} links {}",
        kind(x.stx_mode as u32),
        x.stx_mode & 0o7777,
        x.stx_size,
        x.stx_nlink
    );
    say!(
        "mask has basics: {}",
        x.stx_mask & STATX_BASIC_STATS == STATX_BASIC_STATS
    );
    let st = stat("f").unwrap();
    say!(
        "ino {} uid {} gid {}",
        x.stx_ino == st.st_ino,
        x.stx_uid == st.st_uid,
        x.stx_gid == st.st_gid
    );
    say!(
        "mtime {}",
        x.stx_mtime.tv_sec == st.st_mtime && x.stx_mtime.tv_nsec as i64 == st.st_mtime_nsec
    );
    say!(
        "dev {}",
        makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev
    );
    say!(
        "blksize {}",
        x.stx_blksize == st.st_blksize as u32 && x.stx_blksize >= 512
    );
    let fd = open("f", O_RDONLY).fd();
    say!(
        "by fd: {} {}",
        sys!(statx(fd, c"".as_ptr(), AT_EMPTY_PATH, STATX_SIZE, &mut x)),
        x.stx_size
    );
    say!(
        "empty without flag: {}",
        sys!(statx(fd, c"".as_ptr(), 0, STATX_SIZE, &mut x))
    );
    symlink("f", "s");
    sys!(statx(
        AT_FDCWD,
        c"s".as_ptr(),
        AT_SYMLINK_NOFOLLOW,
        STATX_TYPE,
        &mut x
    ));
    say!("link is {}", kind(x.stx_mode as u32));
    say!(
        "both syncs: {}",
        sys!(statx(
            AT_FDCWD,
            c"f".as_ptr(),
            AT_STATX_FORCE_SYNC,
            STATX_SIZE,
            &mut x
        ))
    );
    let n = sys!(statx(
        AT_FDCWD,
        c"/dev/null".as_ptr(),
        0,
        STATX_TYPE,
        &mut x
    ));
    say!(
        "null: {n} {} {}:{}",
        kind(x.stx_mode as u32),
        x.stx_rdev_major,
        x.stx_rdev_minor
    );
}

pub fn fstatat_flags() {
    put("f", b"123");
    symlink("f", "s");
    symlink("none", "d");
    let at = |base, p: &str, fl| {
        let mut st: libc::stat = zero();
        let p = cs(p);
        let r = sys!(fstatat(base, p.as_ptr(), &mut st, fl));
        if r.failed() {
            r.to_string()
        } else {
            kind(st.st_mode).to_string()
        }
    };
    say!("file: {}", at(AT_FDCWD, "f", 0));
    say!("link: {}", at(AT_FDCWD, "s", 0));
    say!("link nofollow: {}", at(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW));
    say!("dangling: {}", at(AT_FDCWD, "d", 0));
    say!(
        "dangling nofollow: {}",
        at(AT_FDCWD, "d", AT_SYMLINK_NOFOLLOW)
    );
    say!("empty: {}", at(AT_FDCWD, "", 0));
    say!("empty path cwd: {}", at(AT_FDCWD, "", AT_EMPTY_PATH));
    say!("pipe: {}", at(pipe()[0], "", AT_EMPTY_PATH));
    say!("socket: {}", at(pair(SOCK_STREAM)[0], "", AT_EMPTY_PATH));
    say!("bad flags: {}", at(AT_FDCWD, "f", 0x10000));
    say!("trailing slash: {}", at(AT_FDCWD, "f/", 0));
    say!("dir: {}", at(AT_FDCWD, ".", 0));
    say!("dotdot at root: {}", at(AT_FDCWD, "/../../..", 0));
    for p in [
        "/dev/null",
        "/dev/zero",
        "/dev/tty",
        "/dev/random",
        "/dev/full",
    ] {
        let st = stat(p).unwrap();
        say!(
            "{p} {} {}:{}",
            kind(st.st_mode),
            major(st.st_rdev),
            minor(st.st_rdev)
        );
    }
    let st = stat("f").unwrap();
    say!("blocks are 512: {}", st.st_blocks <= 16);
}

pub fn utimens() {
    put("f", b"x");
    let set = |a: (i64, i64), m: (i64, i64)| {
        let t = [
            timespec {
                tv_sec: a.0,
                tv_nsec: a.1,
            },
            timespec {
                tv_sec: m.0,
                tv_nsec: m.1,
            },
        ];
        sys!(utimensat(AT_FDCWD, c"f".as_ptr(), t.as_ptr(), 0))
    };
    let shown = || {
        let s = stat("f").unwrap();
        format!(
            "{}.{:09} {}.{:09}",
            s.st_atime, s.st_atime_nsec, s.st_mtime, s.st_mtime_nsec
        )
    };
    say!("set: {} {}", set((1000, 5), (2000, 123456789)), shown());
    say!("omit: {} {}", set((3000, 0), (0, UTIME_OMIT)), shown());
    say!(
        "both omit: {} {}",
        set((0, UTIME_OMIT), (0, UTIME_OMIT)),
        shown()
    );
    say!("bad nsec: {}", set((0, 1_000_000_000), (0, 0)));
    say!("negative nsec: {}", set((0, -1), (0, 0)));
    let before = stat("f").unwrap();
    say!("now: {}", set((0, UTIME_NOW), (0, UTIME_NOW)));
    let s = stat("f").unwrap();
    say!(
        "moved {} equal {}",
        s.st_mtime > before.st_mtime,
        s.st_mtime == s.st_atime
    );
    say!(
        "null: {}",
        sys!(utimensat(AT_FDCWD, c"f".as_ptr(), std::ptr::null(), 0))
    );
    say!(
        "missing: {}",
        sys!(utimensat(AT_FDCWD, c"no".as_ptr(), std::ptr::null(), 0))
    );
    symlink("f", "s");
    let t = [timespec {
        tv_sec: 7,
        tv_nsec: 0,
    }; 2];
    say!(
        "link itself: {}",
        sys!(utimensat(
            AT_FDCWD,
            c"s".as_ptr(),
            t.as_ptr(),
            AT_SYMLINK_NOFOLLOW
        ))
    );
    say!(
        "link {} file {}",
        stat("s").unwrap().st_mtime,
        stat("f").unwrap().st_mtime == s.st_mtime || stat("f").unwrap().st_mtime > 1000000
    );
    let fd = open("f", O_RDWR).fd();
    say!("futimens: {} {}", sys!(futimens(fd, t.as_ptr())), shown());
    write(fd, b"y");
    say!("write moves mtime: {}", stat("f").unwrap().st_mtime > 7);
    sys!(futimens(fd, t.as_ptr()));
    sys!(ftruncate(fd, 0));
    say!("truncate moves mtime: {}", stat("f").unwrap().st_mtime > 7);
    sys!(futimens(fd, t.as_ptr()));
    chmod("f", 0o600);
    say!(
        "chmod keeps mtime: {} moves ctime: {}",
        stat("f").unwrap().st_mtime == 7,
        stat("f").unwrap().st_ctime > 7
    );
    mkdir("d");
    let d = cs("d");
    sys!(utimensat(AT_FDCWD, d.as_ptr(), t.as_ptr(), 0));
    put("d/x", b"");
    say!(
        "new entry moves dir mtime: {}",
        stat("d").unwrap().st_mtime > 7
    );
}

pub fn access_modes() {
    put("f", b"x");
    put("x", b"x");
    chmod("x", 0o755);
    mkdir("d");
    let a = |p: &str, m| {
        let p = cs(p);
        sys!(access(p.as_ptr(), m))
    };
    say!(
        "exists {} r {} w {} x {}",
        a("f", F_OK),
        a("f", R_OK),
        a("f", W_OK),
        a("f", X_OK)
    );
    say!("exec {} dir {}", a("x", X_OK), a("d", R_OK | W_OK | X_OK));
    say!("missing {} bad mode {}", a("no", F_OK), a("f", 9));
    say!("file as dir {}", a("f/x", F_OK));
    chmod("f", 0);
    let root = is_root();
    let w = |r: R| {
        if root {
            r.failed().to_string()
        } else {
            (r.err() != EACCES).to_string()
        }
    };
    say!("mode 0: r {} w {}", w(a("f", R_OK)), w(a("f", W_OK)));
    say!("mode 0: x {}", a("f", X_OK));
    say!(
        "faccessat2 eaccess: {}",
        raw!(SYS_faccessat2, AT_FDCWD, c"x".as_ptr(), X_OK, AT_EACCESS)
    );
    say!(
        "faccessat2 flags: {}",
        raw!(SYS_faccessat2, AT_FDCWD, c"x".as_ptr(), X_OK, 0x10)
    );
    symlink("none", "s");
    say!("dangling {}", a("s", F_OK));
    say!(
        "dangling nofollow {}",
        raw!(
            SYS_faccessat2,
            AT_FDCWD,
            c"s".as_ptr(),
            F_OK,
            AT_SYMLINK_NOFOLLOW
        )
    );
}

pub fn umask_modes() {
    unsafe {
        say!("first {:o}", umask(0o077));
        say!("second {:o}", umask(0o1777));
        say!("masked {:o}", umask(0));
    }
    open_mode("a", RDWR, 0o666);
    unsafe { umask(0o027) };
    open_mode("b", RDWR, 0o777);
    sys!(mkdir(c"d".as_ptr(), 0o777));
    sys!(mknod(c"p".as_ptr(), S_IFIFO | 0o666, 0));
    for n in ["a", "b", "d", "p"] {
        say!("{n} {}", describe(n));
    }
    let st = run(|| unsafe {
        say!("child {:o}", umask(0o111));
        0
    });
    say!("{st}, parent {:o}", unsafe { umask(0) });
}

pub fn mknod_kinds() {
    let mk = |p: &str, mode, dev| {
        let p = cs(p);
        sys!(mknod(p.as_ptr(), mode, dev))
    };
    say!("regular: {}", mk("f", S_IFREG | 0o644, 0));
    say!("no type: {}", mk("g", 0o600, 0));
    say!("fifo: {}", mk("p", S_IFIFO | 0o600, 0));
    say!("socket: {}", mk("s", S_IFSOCK | 0o600, 0));
    say!("directory: {}", mk("d", S_IFDIR | 0o700, 0));
    say!("exists: {}", mk("f", S_IFREG | 0o644, 0));
    say!("missing: {}", mk("no/f", S_IFREG | 0o644, 0));
    for n in ["f", "g", "p", "s"] {
        say!("{n} {}", describe(n));
    }
    say!("open socket file: {}", open("s", O_RDWR));
    say!(
        "open fifo for write, nobody there: {}",
        open("p", O_WRONLY | O_NONBLOCK)
    );
    say!(
        "open fifo for read, nobody there: {}",
        open("p", O_RDONLY | O_NONBLOCK).ok()
    );
    if !is_root() {
        say!(
            "device as user: {}",
            mk("c", S_IFCHR | 0o600, makedev(1, 3))
        );
    } else {
        say!("device as user: EPERM");
    }
}
