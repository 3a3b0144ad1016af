//! User and group ids, capabilities.

use crate::prelude::*;

tests![
    ids_of_self,
    setuid_family,
    setresuid_matrix,
    groups_calls,
    saved_ids,
    fs_ids,
    caps_calls,
    caps_drop,
    keepcaps,
    secure_exec_env,
    setgid_family
];

fn ids() -> String {
    let (mut r, mut e, mut s) = (0, 0, 0);
    unsafe { getresuid(&mut r, &mut e, &mut s) };
    format!("{r}/{e}/{s}")
}

fn gids() -> String {
    let (mut r, mut e, mut s) = (0, 0, 0);
    unsafe { getresgid(&mut r, &mut e, &mut s) };
    format!("{r}/{e}/{s}")
}

fn ids_of_self() {
    unsafe {
        say!(
            "{} {} {}",
            getuid() == geteuid(),
            getgid() == getegid(),
            ids() == format!("{0}/{0}/{0}", getuid())
        );
        let s = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = s.lines().find(|l| l.starts_with("Uid:")).unwrap();
        say!(
            "proc {}",
            line == format!("Uid:\t{0}\t{0}\t{0}\t{0}", getuid())
        );
        say!(
            "inherited {}",
            run(|| getuid() as i32) == St((getuid() as i32 & 255) << 8)
        );
    }
    say!("pointer {}", raw!(SYS_getresuid, 8, 8, 8));
}

fn setuid_family() {
    if is_root() {
        let st = run(|| {
            say!("{} {}", sys!(setuid(1000)), ids());
            say!("back {} {}", sys!(setuid(0)), ids());
            say!("same {} {}", sys!(setuid(1000)), sys!(setreuid(1000, 1000)));
            0
        });
        say!("{st}");
        let st = run(|| {
            say!("seteuid {} {}", sys!(seteuid(1000)), ids());
            say!("back {} {}", sys!(seteuid(0)), ids());
            say!("setreuid {} {}", sys!(setreuid(1000, 2000)), ids());
            say!("back to root {} {}", sys!(setuid(0)), ids());
            0
        });
        say!("{st}");
    } else {
        let me = unsafe { getuid() };
        say!(
            "root {} other {} own {}",
            sys!(setuid(0)),
            sys!(setuid(me + 1)),
            sys!(setuid(me))
        );
        say!(
            "{} {}",
            sys!(setresuid(me + 1, u32::MAX, u32::MAX)),
            sys!(setreuid(u32::MAX, me + 1))
        );
    }
    say!("-1 {}", sys!(setuid(u32::MAX)));
}

fn setresuid_matrix() {
    if !is_root() {
        return skip_root();
    }
    let st = run(|| {
        sys!(setresuid(1, 2, 3)).v();
        say!("{}", ids());
        for (r, e, s) in [
            (2, 3, 1),
            (u32::MAX, 1, u32::MAX),
            (4, u32::MAX, u32::MAX),
            (u32::MAX, u32::MAX, 0),
            (3, 3, 3),
            (1, 1, 1),
        ] {
            say!(
                "{} {} {}: {} {}",
                r as i32,
                e as i32,
                s as i32,
                sys!(setresuid(r, e, s)),
                ids()
            );
        }
        0
    });
    say!("{st}");
}

fn setgid_family() {
    if !is_root() {
        let g = unsafe { getgid() };
        say!(
            "{} {} {}",
            sys!(setgid(g)),
            sys!(setgid(g + 1)),
            sys!(setresgid(g + 1, g, g))
        );
        return skip_root();
    }
    let st = run(|| {
        say!("{} {}", sys!(setegid(50)), gids());
        say!("{} {}", sys!(setresgid(10, 20, 30)), gids());
        say!("{} {}", sys!(setregid(5, 6)), gids());
        sys!(setuid(1000)).v();
        say!("as user {} {} {}", sys!(setgid(7)), sys!(setgid(5)), gids());
        0
    });
    say!("{st}");
}

fn groups_calls() {
    let mut g = [0u32; 100];
    let n = sys!(getgroups(0, null_mut()));
    say!("count {}", n.0 >= 0);
    say!(
        "negative {} short {}",
        sys!(getgroups(-1, g.as_mut_ptr())),
        if n.0 > 1 {
            sys!(getgroups(1, g.as_mut_ptr())).to_string()
        } else {
            "EINVAL".into()
        }
    );
    if !is_root() {
        say!("set {}", sys!(setgroups(0, null())));
        return skip_root();
    }
    let st = run(|| {
        let v = [30u32, 10, 20, 10];
        say!(
            "{} {}",
            sys!(setgroups(4, v.as_ptr())),
            sys!(getgroups(100, g.as_mut_ptr()))
        );
        g[..4].sort();
        say!("{:?}", &g[..4]);
        say!("short {}", sys!(getgroups(3, g.as_mut_ptr())));
        say!("too many {}", sys!(setgroups(70000, v.as_ptr())));
        say!("child {}", run(|| sys!(getgroups(0, null_mut())).0 as i32));
        say!(
            "none {} {}",
            sys!(setgroups(0, null())),
            sys!(getgroups(0, null_mut()))
        );
        0
    });
    say!("{st}");
}

fn saved_ids() {
    if !is_root() {
        return skip_root();
    }
    // exec copies the effective into the saved id.
    let st = run(|| {
        sys!(setresuid(1000, 2000, 0)).v();
        exec(c"/bin/grep", &["grep", "Uid", "/proc/self/status"], &[]).err()
    });
    say!("{st}");
}

fn fs_ids() {
    unsafe {
        let now = setfsuid(u32::MAX);
        say!(
            "query {} {}",
            now as u32 == geteuid(),
            setfsgid(u32::MAX) as u32 == getegid()
        );
        if !is_root() {
            setfsuid(0);
            say!("refused {}", setfsuid(u32::MAX) as u32 == geteuid());
            return;
        }
        setfsuid(1000);
        if setfsuid(u32::MAX) != 1000 {
            say!("not set");
        }
        setfsuid(0);
        say!("refused true");
    }
}

#[repr(C)]
struct Header(u32, i32);

fn caps_calls() {
    let mut d = [0u32; 6];
    let v3 = 0x2008_0522u32;
    let h = Header(v3, 0);
    say!(
        "{} root has all of a sort {}",
        raw!(SYS_capget, &raw const h, d.as_mut_ptr()),
        (d[0] != 0) == is_root()
    );
    let bad = Header(1, 0);
    say!(
        "version {} told {}",
        raw!(SYS_capget, &raw const bad, d.as_mut_ptr()),
        bad.0 == v3 || unsafe { (&raw const bad.0).read_volatile() } == v3
    );
    let other = Header(v3, 99999);
    say!(
        "nobody {} init {}",
        raw!(SYS_capget, &raw const other, d.as_mut_ptr()),
        raw!(SYS_capget, &Header(v3, 1) as *const Header, d.as_mut_ptr())
    );
    let mut more = [u32::MAX; 6];
    more[2] = 0;
    say!(
        "raise {}",
        run(|| {
            sys!(setgid(1000));
            sys!(setuid(1000));
            raw!(SYS_capset, &raw const h, more.as_mut_ptr()).err()
        })
    );
    say!(
        "of another {}",
        raw!(SYS_capset, &Header(v3, 1) as *const Header, d.as_mut_ptr())
    );
    say!(
        "bounding read {} bad {}",
        sys!(prctl(PR_CAPBSET_READ, 0)).0 >= 0,
        sys!(prctl(PR_CAPBSET_READ, 99))
    );
}

fn caps_drop() {
    if !is_root() {
        return skip_root();
    }
    put("f", b"secret");
    chown("f", 1234, 1234);
    chmod("f", 0);
    let st = run(|| {
        say!("with {}", open("f", O_RDONLY).ok());
        let h = Header(0x2008_0522, 0);
        let none = [0u32; 6];
        say!("{}", raw!(SYS_capset, &raw const h, none.as_ptr()));
        say!(
            "uid 0 without capabilities {} chown {} setuid {}",
            open("f", O_RDONLY),
            chown("f", 0, 0),
            sys!(setuid(7))
        );
        say!("kill init {}", sys!(kill(1, 0)));
        0
    });
    say!("{st}");
    let st = run(|| {
        say!(
            "drop {} again {}",
            sys!(prctl(PR_CAPBSET_DROP, 21)),
            sys!(prctl(PR_CAPBSET_READ, 21))
        );
        0
    });
    say!("{st}");
}

fn keepcaps() {
    say!(
        "{} {}",
        sys!(prctl(PR_GET_KEEPCAPS)),
        sys!(prctl(PR_SET_KEEPCAPS, 2))
    );
    if !is_root() {
        return skip_root();
    }
    put("f", b"");
    chmod("f", 0);
    let st = run(|| {
        sys!(prctl(PR_SET_KEEPCAPS, 1)).v();
        sys!(setuid(1000)).v();
        let mut d = [0u32; 6];
        raw!(
            SYS_capget,
            &Header(0x2008_0522, 0) as *const Header,
            d.as_mut_ptr()
        )
        .v();
        say!("effective {} permitted {}", d[0] != 0, d[1] != 0);
        d[0] = d[1];
        d[3] = d[4];
        say!(
            "raised {} {}",
            raw!(
                SYS_capset,
                &Header(0x2008_0522, 0) as *const Header,
                d.as_ptr()
            ),
            open("f", O_RDONLY).ok()
        );
        0
    });
    say!("{st}");
}

fn secure_exec_env() {
    say!(
        "no_new_privs {} {} {}",
        sys!(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)),
        sys!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        sys!(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
    );
    say!(
        "clear {} junk {}",
        sys!(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)),
        sys!(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0))
    );
    say!(
        "child {}",
        run(|| sys!(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)).0 as i32)
    );
}
