//! Modes, owners, and who may do what.

use crate::prelude::*;

tests![
    chmod_modes,
    chmod_errors,
    chown_basic,
    suid_cleared,
    sticky_dir,
    search_rights,
    exec_rights,
    setgid_dir,
    as_other_user,
    fchmodat_flags,
    root_overrides,
    group_rights,
];

/// Runs `f` in a child as this user and group.
fn as_user(uid: u32, gid: u32, f: impl FnOnce()) -> St {
    run(|| {
        sys!(setgroups(0, null())).v();
        sys!(setgid(gid)).v();
        sys!(setuid(uid)).v();
        f();
        0
    })
}

fn chmod_modes() {
    put("f", b"");
    mkdir("d");
    for m in [0, 0o777, 0o644, 0o4755, 0o1755, 0o7777, 0o10644] {
        say!(
            "{m:o}: {} {} {}",
            chmod("f", m),
            describe("f"),
            chmod("d", m)
        );
    }
    let fd = open("f", O_RDONLY).fd();
    say!("fchmod {} {}", sys!(fchmod(fd, 0o600)), describe("f"));
    symlink("f", "s");
    say!("through link {} {}", chmod("s", 0o640), describe("f"));
    chmod("d", 0o755);
}

fn chmod_errors() {
    put("f", b"");
    say!(
        "missing {} below file {} empty {}",
        chmod("no", 0),
        chmod("f/x", 0),
        chmod("", 0)
    );
    symlink("none", "s");
    say!("dangling {}", chmod("s", 0));
    say!("bad fd {}", sys!(fchmod(-1, 0)));
    say!(
        "not owner {}",
        if is_root() {
            "EPERM".into()
        } else {
            chmod("/etc/passwd", 0o666).to_string()
        }
    );
}

fn chown_basic() {
    put("f", b"");
    say!("nothing {}", chown("f", u32::MAX, u32::MAX));
    let st = stat("f").unwrap();
    say!("same {}", chown("f", st.st_uid, st.st_gid));
    say!("missing {}", chown("no", 0, 0));
    symlink("none", "s");
    say!(
        "dangling {} itself {}",
        chown("s", u32::MAX, u32::MAX),
        sys!(lchown(c"s".as_ptr(), u32::MAX, u32::MAX))
    );
    if is_root() {
        say!("give away EPERM EPERM");
        chmod(".", 0o755);
        chown("f", 1000, 1001);
        let st = stat("f").unwrap();
        if (st.st_uid, st.st_gid) != (1000, 1001) {
            say!("owner {} {}", st.st_uid, st.st_gid);
        }
        let st = as_user(1000, 1000, || {
            if chown("f", 1000, 1000).failed() || chown("f", 1000, 0).err() != EPERM {
                say!("own group only");
            }
        });
        say!("{st}");
    } else {
        say!(
            "give away {} {}",
            chown("f", 12345, u32::MAX),
            chown("f", u32::MAX, 12345)
        );
        say!("exit 0");
    }
    say!(
        "fchownat flags {}",
        sys!(fchownat(
            AT_FDCWD,
            c"f".as_ptr(),
            u32::MAX,
            u32::MAX,
            0x8000
        ))
    );
    let fd = open("f", O_RDONLY).fd();
    say!(
        "empty path {}",
        sys!(fchownat(
            fd,
            c"".as_ptr(),
            u32::MAX,
            u32::MAX,
            AT_EMPTY_PATH
        ))
    );
}

fn suid_cleared() {
    put("f", b"x");
    let mode = |m: u32| chmod("f", m).v();
    mode(0o6755);
    say!("set {}", describe("f"));
    let st = stat("f").unwrap();
    chown("f", st.st_uid, st.st_gid);
    say!(
        "after chown {}",
        if is_root() {
            "like user".into()
        } else {
            "like user".to_string()
        }
    );
    if !is_root() {
        mode(0o6755);
        let fd = open("f", O_WRONLY).fd();
        write(fd, b"y");
        say!("after write {}", describe("f"));
        mode(0o6755);
        sys!(ftruncate(fd, 0));
        say!("after truncate {}", describe("f"));
        mode(0o2644);
        write(fd, b"y");
        say!("setgid without x {}", describe("f"));
    } else {
        chmod("f", 0o6755);
        chown("f", 65534, 65534);
        sys!(chmod(c".".as_ptr(), 0o755));
        let st = as_user(65534, 65534, || {
            chmod("f", 0o6755);
            let fd = open("f", O_WRONLY).fd();
            write(fd, b"y");
            say!("after write {}", describe("f"));
            chmod("f", 0o6755);
            sys!(ftruncate(fd, 0));
            say!("after truncate {}", describe("f"));
            chmod("f", 0o2644);
            write(fd, b"y");
            say!("setgid without x {}", describe("f"));
        });
        if st != St(0) {
            say!("{st}");
        }
    }
}

fn sticky_dir() {
    if !is_root() {
        return skip_root();
    }
    chmod(".", 0o755);
    mkdir("t");
    chmod("t", 0o1777);
    let st = as_user(1000, 1000, || {
        put("t/mine", b"1000");
        chmod("t/mine", 0o666);
    });
    say!("{st}");
    let st = as_user(1001, 1001, || {
        say!("write {}", open("t/mine", O_WRONLY | O_APPEND).ok());
        say!(
            "unlink {} rename {}",
            unlink("t/mine"),
            rename("t/mine", "t/x")
        );
        put("t/other", b"1001");
        say!("over it {}", rename("t/other", "t/mine"));
        say!("own {}", unlink("t/other"));
    });
    say!("{st}");
    let st = as_user(1000, 1000, || say!("owner {}", unlink("t/mine")));
    say!("{st} {}", ls("t"));
}

fn search_rights() {
    let body = || {
        mkdir("d");
        put("d/f", b"F");
        chmod("d", 0o666);
        say!(
            "no x: open {} stat {} list {}",
            open("d/f", O_RDONLY),
            describe("d/f"),
            ls("d")
        );
        chmod("d", 0o333);
        say!(
            "no r: open {} list {} create {}",
            open("d/f", O_RDONLY).ok(),
            ls("d"),
            open("d/g", RDWR).ok()
        );
        chmod("d", 0o555);
        say!(
            "no w: create {} unlink {} write {}",
            open("d/h", RDWR),
            unlink("d/f"),
            open("d/f", O_RDWR).ok()
        );
        say!(
            "no w: mkdir {} existing {} rmdir {}",
            mkdir("d/s"),
            open("d/f", RDWR).ok(),
            rmdir("d/none")
        );
        chmod("d", 0o755);
        chmod("d/f", 0o000);
        say!(
            "file 0: r {} w {} path {}",
            open("d/f", O_RDONLY),
            open("d/f", O_WRONLY),
            open("d/f", O_PATH).ok()
        );
        chmod("d/f", 0o200);
        say!(
            "file w: r {} w {} rw {}",
            open("d/f", O_RDONLY),
            open("d/f", O_WRONLY).ok(),
            open("d/f", O_RDWR)
        );
        // The owner's class decides, even when others may do more.
        chmod("d/f", 0o077);
        say!("owner class: {}", open("d/f", O_RDONLY));
        let p = cs("d/f");
        say!("truncate {}", sys!(truncate(p.as_ptr(), 0)));
        say!(
            "utimens now {}",
            sys!(utimensat(AT_FDCWD, p.as_ptr(), null(), 0))
        );
    };
    if is_root() {
        chmod(".", 0o777);
        let st = as_user(1000, 1000, body);
        say!("{st}");
    } else {
        body();
        say!("exit 0");
    }
}

fn exec_rights() {
    put("s", b"#!/bin/sh\nexit 7\n");
    let go = || run(|| exec(c"./s", &["s"], &[]).err());
    let deny = go();
    say!(
        "0644: {}",
        if deny == St(EACCES << 8) {
            "EACCES".into()
        } else {
            deny.to_string()
        }
    );
    chmod("s", 0o755);
    say!("0755: {}", go());
    chmod("s", 0o001);
    say!(
        "access x {}",
        sys!(access(c"s".as_ptr(), X_OK)).failed() != is_root()
    );
    mkdir("d");
    say!(
        "dir: {}",
        run(|| exec(c"./d", &["d"], &[]).err()) == St(EACCES << 8)
    );
}

fn setgid_dir() {
    mkdir("d");
    let gid = stat("d").unwrap().st_gid;
    chmod("d", 0o2755);
    say!("{}", describe("d"));
    put("d/f", b"");
    mkdir("d/s");
    say!("{} {}", describe("d/f"), describe("d/s"));
    say!(
        "group {} {}",
        stat("d/f").unwrap().st_gid == gid,
        stat("d/s").unwrap().st_gid == gid
    );
    if is_root() {
        chown("d", u32::MAX, 1234);
        chmod("d", 0o2777);
        put("d/g", b"");
        mkdir("d/t");
        if stat("d/g").unwrap().st_gid != 1234 || stat("d/t").unwrap().st_gid != 1234 {
            say!("inheritance broken");
        }
    }
    say!("done");
}

fn as_other_user() {
    if !is_root() {
        return skip_root();
    }
    chmod(".", 0o755);
    put("pub", b"public");
    put("priv", b"private");
    chmod("priv", 0o600);
    mkdir("closed");
    chmod("closed", 0o700);
    put("closed/f", b"");
    let st = as_user(1000, 1000, || {
        say!(
            "pub {} priv {} closed {}",
            open("pub", O_RDONLY).ok(),
            open("priv", O_RDONLY),
            open("closed/f", O_RDONLY)
        );
        say!(
            "write pub {} create {}",
            open("pub", O_WRONLY),
            open("new", RDWR)
        );
        say!(
            "chmod {} chown {} utime {}",
            chmod("pub", 0o777),
            chown("pub", 1000, 1000),
            {
                let t = [timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                }; 2];
                sys!(utimensat(AT_FDCWD, c"pub".as_ptr(), t.as_ptr(), 0))
            }
        );
        say!(
            "utime now {}",
            sys!(utimensat(AT_FDCWD, c"pub".as_ptr(), null(), 0))
        );
        say!(
            "link {} unlink {} rename {}",
            link("pub", "l"),
            unlink("pub"),
            rename("pub", "p2")
        );
        say!(
            "mknod {} chroot {}",
            sys!(mknod(c"n".as_ptr(), S_IFCHR | 0o600, 0)),
            sys!(chroot(c".".as_ptr()))
        );
        say!("noatime {}", open("pub", O_RDONLY | O_NOATIME));
        say!(
            "xattr {}",
            sys!(setxattr(
                c"pub".as_ptr(),
                c"user.a".as_ptr(),
                c"x".as_ptr().cast(),
                1,
                0
            ))
        );
    });
    say!("{st}");
}

fn fchmodat_flags() {
    put("f", b"");
    symlink("f", "s");
    say!(
        "plain {}",
        sys!(fchmodat(AT_FDCWD, c"f".as_ptr(), 0o600, 0))
    );
    say!("fchmodat2 {}", raw!(452, AT_FDCWD, c"f".as_ptr(), 0o640, 0));
    say!(
        "fchmodat2 on link {}",
        raw!(452, AT_FDCWD, c"s".as_ptr(), 0o600, AT_SYMLINK_NOFOLLOW)
    );
    say!(
        "fchmodat2 flags {}",
        raw!(452, AT_FDCWD, c"f".as_ptr(), 0o600, 0x1)
    );
    say!("{}", describe("f"));
}

fn root_overrides() {
    if !is_root() {
        return skip_root();
    }
    put("f", b"x");
    chmod("f", 0);
    say!(
        "read {} write {}",
        open("f", O_RDONLY).ok(),
        open("f", O_WRONLY).ok()
    );
    say!(
        "access r {} w {} x {}",
        sys!(access(c"f".as_ptr(), R_OK)),
        sys!(access(c"f".as_ptr(), W_OK)),
        sys!(access(c"f".as_ptr(), X_OK))
    );
    mkdir("d");
    put("d/g", b"");
    chmod("d", 0);
    say!("into 0 dir {} list {}", open("d/g", O_RDONLY).ok(), ls("d"));
    // Capabilities follow the effective user.
    let st = run(|| {
        sys!(setresuid(u32::MAX, 1000, u32::MAX)).v();
        say!("euid 1000: {}", open("f", O_RDONLY));
        say!(
            "access uses the real user: {}",
            sys!(access(c"f".as_ptr(), R_OK))
        );
        sys!(setresuid(u32::MAX, 0, u32::MAX)).v();
        say!("euid 0: {}", open("f", O_RDONLY).ok());
        sys!(setfsuid(1000));
        say!("fsuid 1000: {}", open("f", O_RDONLY));
        0
    });
    say!("{st}");
}

fn group_rights() {
    if !is_root() {
        return skip_root();
    }
    chmod(".", 0o755);
    put("f", b"x");
    chown("f", 2000, 3000);
    chmod("f", 0o040);
    let with = |groups: &'static [u32], gid: u32| {
        run(move || {
            sys!(setgroups(groups.len(), groups.as_ptr())).v();
            sys!(setgid(gid)).v();
            sys!(setuid(1000)).v();
            open("f", O_RDONLY).err()
        })
    };
    say!(
        "no group {} primary {} supplementary {}",
        with(&[], 1000),
        with(&[], 3000),
        with(&[5, 3000, 7], 1000)
    );
    chmod("f", 0o604);
    say!("group class denies {}", with(&[3000], 1000));
    say!("others {}", with(&[], 1000));
}
