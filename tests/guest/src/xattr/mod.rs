//! Extended attributes.

use crate::prelude::*;

tests![
    user_basic,
    flags_and_sizes,
    namespaces,
    listing,
    by_descriptor
];

fn set_x(p: &str, n: &str, v: &[u8], fl: i32) -> R {
    let (p, n) = (cs(p), cs(n));
    sys!(setxattr(
        p.as_ptr(),
        n.as_ptr(),
        v.as_ptr().cast(),
        v.len(),
        fl
    ))
}

fn get_x(p: &str, n: &str, len: usize) -> String {
    let (p, n) = (cs(p), cs(n));
    let mut b = vec![0u8; len];
    let r = sys!(getxattr(p.as_ptr(), n.as_ptr(), b.as_mut_ptr().cast(), len));
    if r.failed() {
        r.to_string()
    } else {
        format!("{r} {}", show(&b[..(r.0 as usize).min(len)]))
    }
}

/// Whether the file system takes user attributes at all (tmpfs does since 6.6).
fn supported() -> bool {
    put("probe", b"");
    if set_x("probe", "user.probe", b"x", 0).err() == EOPNOTSUPP {
        say!("not supported here");
        return false;
    }
    true
}

fn user_basic() {
    if !supported() {
        return;
    }
    put("f", b"");
    say!("absent {}", get_x("f", "user.a", 10));
    say!(
        "{} {}",
        set_x("f", "user.a", b"value", 0),
        get_x("f", "user.a", 100)
    );
    say!("size query {}", get_x("f", "user.a", 0));
    say!(
        "{} {}",
        set_x("f", "user.a", b"other", 0),
        get_x("f", "user.a", 100)
    );
    say!(
        "empty value {} {}",
        set_x("f", "user.e", b"", 0),
        get_x("f", "user.e", 10)
    );
    say!(
        "remove {}",
        sys!(removexattr(c"f".as_ptr(), c"user.a".as_ptr()))
    );
    say!(
        "again {} {}",
        sys!(removexattr(c"f".as_ptr(), c"user.a".as_ptr())),
        get_x("f", "user.a", 10)
    );
    mkdir("d");
    say!(
        "dir {} {}",
        set_x("d", "user.d", b"D", 0),
        get_x("d", "user.d", 10)
    );
    say!("missing file {}", set_x("no", "user.a", b"", 0));
    rename("f", "g");
    say!("moves along {}", get_x("g", "user.e", 10));
}

fn flags_and_sizes() {
    if !supported() {
        return;
    }
    put("f", b"");
    say!(
        "replace absent {}",
        set_x("f", "user.a", b"1", XATTR_REPLACE)
    );
    say!("create {}", set_x("f", "user.a", b"1", XATTR_CREATE));
    say!("create again {}", set_x("f", "user.a", b"2", XATTR_CREATE));
    say!(
        "replace {} {}",
        set_x("f", "user.a", b"3", XATTR_REPLACE),
        get_x("f", "user.a", 9)
    );
    say!("bad flags {}", set_x("f", "user.a", b"4", 8));
    set_x("f", "user.long", &[b'v'; 100], 0);
    say!("short buffer {}", get_x("f", "user.long", 50));
    say!(
        "value too long {}",
        set_x("f", "user.huge", &vec![0; 65537], 0)
    );
    say!(
        "name too long {}",
        set_x("f", &format!("user.{}", "n".repeat(251)), b"", 0)
    );
    say!(
        "name at limit {}",
        set_x("f", &format!("user.{}", "n".repeat(250)), b"x", 0)
    );
    say!("empty name {}", set_x("f", "", b"", 0));
}

fn namespaces() {
    if !supported() {
        return;
    }
    put("f", b"");
    symlink("f", "s");
    say!(
        "no dot {} unknown {}",
        set_x("f", "nodot", b"", 0),
        set_x("f", "unknown.a", b"", 0)
    );
    say!("user alone {}", set_x("f", "user.", b"", 0));
    say!(
        "through link {} {}",
        set_x("s", "user.via", b"V", 0),
        get_x("f", "user.via", 9)
    );
    say!(
        "on link {}",
        sys!(lsetxattr(
            c"s".as_ptr(),
            c"user.l".as_ptr(),
            c"x".as_ptr().cast(),
            1,
            0
        ))
    );
    say!(
        "read on link {}",
        sys!(lgetxattr(c"s".as_ptr(), c"user.l".as_ptr(), null_mut(), 0))
    );
    say!(
        "trusted as user EPERM, reading ENODATA: {}",
        if is_root() {
            "yes".into()
        } else {
            format!(
                "{}",
                if set_x("f", "trusted.a", b"", 0).err() == EPERM
                    && get_x("f", "trusted.a", 9) == "ENODATA"
                {
                    "yes"
                } else {
                    "no"
                }
            )
        }
    );
    if !is_root() {
        chmod("f", 0o400);
        say!("read-only file {}", set_x("f", "user.z", b"", 0));
    } else {
        say!("read-only file EACCES");
    }
}

fn listing() {
    if !supported() {
        return;
    }
    put("f", b"");
    let list = |n: usize| {
        let mut b = vec![0u8; n];
        let r = sys!(listxattr(c"f".as_ptr(), b.as_mut_ptr().cast(), n));
        if r.failed() || n == 0 {
            return r.to_string();
        }
        let mut v: Vec<String> = b[..r.0 as usize]
            .split(|c| *c == 0)
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .filter(|s| s.starts_with("user."))
            .collect();
        v.sort();
        v.join(" ")
    };
    say!("none {}", list(100));
    for n in ["user.b", "user.a", "user.c"] {
        set_x("f", n, b"x", 0);
    }
    say!("{}", list(1000));
    say!("short {}", list(5));
    sys!(removexattr(c"f".as_ptr(), c"user.a".as_ptr()));
    say!("{}", list(1000));
    say!("missing {}", sys!(listxattr(c"no".as_ptr(), null_mut(), 0)));
}

fn by_descriptor() {
    if !supported() {
        return;
    }
    let fd = open("f", RDWR).fd();
    say!(
        "{}",
        sys!(fsetxattr(
            fd,
            c"user.f".as_ptr(),
            c"val".as_ptr().cast(),
            3,
            0
        ))
    );
    say!("{}", get_x("f", "user.f", 10));
    unlink("f");
    let mut b = [0u8; 8];
    say!(
        "unlinked {}",
        sys!(fgetxattr(fd, c"user.f".as_ptr(), b.as_mut_ptr().cast(), 8))
    );
    say!(
        "bad fd {}",
        sys!(fgetxattr(-1, c"user.f".as_ptr(), b.as_mut_ptr().cast(), 8))
    );
    say!(
        "pipe {}",
        sys!(fsetxattr(
            pipe()[0],
            c"user.f".as_ptr(),
            c"v".as_ptr().cast(),
            1,
            0
        ))
        .failed()
    );
}
