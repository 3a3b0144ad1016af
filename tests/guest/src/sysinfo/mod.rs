//! uname, sysinfo, statfs, sysconf, getrandom and other questions to the system.

use crate::prelude::*;

tests![
    uname_words,
    sysinfo_numbers,
    statfs_kinds,
    sysconf_values,
    getrandom_calls,
    hostname_rights,
    missing_calls,
    syslog_rights,
    cpuid_facts,
    getcpu_count,
    mount_rights
];

fn uname_words() {
    let mut u: utsname = zero();
    sys!(uname(&mut u)).v();
    let s = |a: &[i8; 65]| {
        unsafe { std::ffi::CStr::from_ptr(a.as_ptr()) }
            .to_str()
            .unwrap()
            .to_string()
    };
    say!("{} {}", s(&u.sysname), s(&u.machine));
    let rel = s(&u.release);
    let major: i32 = rel.split('.').next().unwrap().parse().unwrap();
    say!(
        "at least 5: {} version {} name {}",
        major >= 5,
        s(&u.version).starts_with('#'),
        !s(&u.nodename).is_empty()
    );
}

fn sysinfo_numbers() {
    let mut i: libc::sysinfo = zero();
    sys!(sysinfo(&mut i)).v();
    say!(
        "ram {} free {} unit {} procs {}",
        i.totalram > 0,
        i.freeram <= i.totalram,
        i.mem_unit,
        i.procs > 0
    );
    say!(
        "pages {}",
        unsafe { sysconf(_SC_PHYS_PAGES) } as u64 * 4096 / (1 << 20)
            == i.totalram * i.mem_unit as u64 / (1 << 20)
    );
}

fn statfs_kinds() {
    let f = |p: &str| {
        let mut s: statfs = zero();
        let p = cs(p);
        let r = sys!(statfs(p.as_ptr(), &mut s));
        if r.failed() {
            r.to_string()
        } else {
            format!(
                "bsize {} namelen {} blocks {}",
                s.f_bsize > 0,
                s.f_namelen,
                s.f_bavail <= s.f_blocks
            )
        }
    };
    say!("/ {}", f("/"));
    say!("proc {}", f("/proc"));
    say!("missing {}", f("no"));
    let mut s: statfs = zero();
    say!("pipe {} {:#x}", sys!(fstatfs(pipe()[0], &mut s)), s.f_type);
    say!("pipe magic {:#x}", s.f_type);
    say!("bad {}", sys!(fstatfs(-1, &mut s)));
    let mut v: statvfs = zero();
    say!(
        "statvfs {} {}",
        sys!(statvfs(c".".as_ptr(), &mut v)),
        v.f_namemax
    );
}

fn sysconf_values() {
    for (n, c) in [
        ("page", _SC_PAGESIZE),
        ("ticks", _SC_CLK_TCK),
        ("iov", _SC_IOV_MAX),
        ("rtsig", _SC_RTSIG_MAX),
        ("ngroups", _SC_NGROUPS_MAX),
    ] {
        say!("{n} {}", unsafe { sysconf(c) });
    }
    say!(
        "arg {} open {}",
        unsafe { sysconf(_SC_ARG_MAX) } >= 131072,
        unsafe { sysconf(_SC_OPEN_MAX) } >= 32
    );
    say!(
        "cpus {}",
        unsafe { sysconf(_SC_NPROCESSORS_CONF) } >= unsafe { sysconf(_SC_NPROCESSORS_ONLN) }
    );
}

fn getrandom_calls() {
    let mut a = [0u8; 64];
    let mut b = [0u8; 64];
    say!(
        "{} {}",
        sys!(getrandom(a.as_mut_ptr().cast(), 64, 0)),
        sys!(getrandom(b.as_mut_ptr().cast(), 64, GRND_NONBLOCK))
    );
    say!(
        "differ {} zero {}",
        a != b,
        sys!(getrandom(a.as_mut_ptr().cast(), 0, 0))
    );
    say!(
        "random pool {} insecure {}",
        sys!(getrandom(a.as_mut_ptr().cast(), 16, GRND_RANDOM)),
        sys!(getrandom(a.as_mut_ptr().cast(), 16, GRND_INSECURE))
    );
    say!(
        "both {} flags {} pointer {}",
        sys!(getrandom(
            a.as_mut_ptr().cast(),
            8,
            GRND_RANDOM | GRND_INSECURE
        )),
        sys!(getrandom(a.as_mut_ptr().cast(), 8, 0x80)),
        sys!(getrandom(8 as *mut _, 8, 0))
    );
    let mut big = vec![0u8; 1 << 20];
    say!(
        "a megabyte {}",
        sys!(getrandom(big.as_mut_ptr().cast(), 1 << 20, 0))
    );
    let mut count = [0u32; 256];
    big.iter().for_each(|b| count[*b as usize] += 1);
    say!("even {}", count.iter().all(|c| (3500..4700).contains(c)));
    let st = run(|| {
        let mut c = [0u8; 64];
        sys!(getrandom(c.as_mut_ptr().cast(), 64, 0)).v();
        (c == a) as i32
    });
    say!("child differs {st}");
}

fn hostname_rights() {
    if is_root() {
        say!("sethostname EPERM setdomainname EPERM");
        say!(
            "too long {}",
            sys!(sethostname([b'x'; 70].as_ptr().cast(), 70))
        );
    } else {
        say!(
            "sethostname {} setdomainname {}",
            sys!(sethostname(c"x".as_ptr(), 1)),
            sys!(setdomainname(c"x".as_ptr(), 1))
        );
        say!("too long EINVAL");
    }
    let mut b = [0i8; 100];
    say!(
        "gethostname {} short {}",
        sys!(gethostname(b.as_mut_ptr(), 100)),
        sys!(gethostname(b.as_mut_ptr(), 1))
    );
}

fn missing_calls() {
    for n in [500, 1000, 100_000, -1i64, 0x4000_0000] {
        say!("{n}: {}", raw!(n));
    }
    say!(
        "removed: create_module {} query_module {} nfsservctl {} uselib {}",
        raw!(174),
        raw!(178),
        raw!(180),
        raw!(134)
    );
    say!(
        "sysctl {} vserver {} tuxcall {}",
        raw!(156),
        raw!(236),
        raw!(184)
    );
}

fn syslog_rights() {
    say!("bad {}", raw!(SYS_syslog, 99, 0, 0).failed());
    say!(
        "size {}",
        if is_root() {
            raw!(SYS_syslog, 10, 0, 0).0 >= 0
        } else {
            true
        }
    );
}

fn cpuid_facts() {
    let c = std::arch::x86_64::__cpuid(0);
    say!("leaves {}", c.eax >= 7);
    let f = std::arch::x86_64::__cpuid(1);
    say!(
        "sse2 {} syscall {}",
        f.edx >> 26 & 1,
        std::arch::x86_64::__cpuid(0x8000_0001).edx >> 11 & 1
    );
    let t0 = unsafe { std::arch::x86_64::_rdtsc() };
    ms(5);
    say!("tsc moves {}", unsafe { std::arch::x86_64::_rdtsc() } > t0);
}

fn getcpu_count() {
    let n = std::thread::available_parallelism().unwrap().get();
    say!("{}", n >= 1);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or("none".into());
    say!("sysfs {}", online.starts_with('0'));
    say!(
        "possible {}",
        std::fs::read_to_string("/sys/devices/system/cpu/possible")
            .is_ok_and(|s| s.starts_with('0'))
    );
}

fn mount_rights() {
    mkdir("m");
    let m = |src: &str, dst: &str, ty: &str, fl: u64| {
        let (s, d, t) = (cs(src), cs(dst), cs(ty));
        sys!(mount(s.as_ptr(), d.as_ptr(), t.as_ptr(), fl, null()))
    };
    if !is_root() {
        say!(
            "{} {}",
            m("none", "m", "tmpfs", 0),
            sys!(umount2(c"m".as_ptr(), 0))
        );
        return skip_root();
    }
    say!(
        "unknown type {} missing dir {}",
        m("none", "m", "nosuchfs", 0),
        m("none", "no", "tmpfs", 0)
    );
    say!("not a mount {}", sys!(umount2(c"m".as_ptr(), 0)));
}
