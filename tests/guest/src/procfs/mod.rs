//! What /proc shows: the parts that libraries and tools read.

use crate::prelude::*;

tests![
    self_links,
    stat_fields,
    status_fields,
    statm_and_maps,
    system_files,
    sysctl_files,
    pid_dirs,
    fd_dir,
    dirs_that_shrink,
    mounts,
    cmdline_environ,
    seeking,
    permissions,
    threads_dir,
    smaps_sums,
    misc_reads,
    uptime_and_load,
    net_unix
];

fn text(p: &str) -> String {
    std::fs::read_to_string(p)
        .unwrap_or_else(|e| errno_name(e.raw_os_error().unwrap_or(0)).to_string())
}

fn self_links() {
    let pid = unsafe { getpid() };
    say!(
        "{}",
        std::fs::read_link("/proc/self").unwrap().to_string_lossy() == pid.to_string()
    );
    say!(
        "{}",
        text(&format!("/proc/{pid}/stat")).starts_with(&pid.to_string())
    );
    say!(
        "gone {} zero {} words {}",
        describe("/proc/99999"),
        describe("/proc/0"),
        describe("/proc/nosuch")
    );
    say!(
        "ns {}",
        std::fs::read_link("/proc/self/ns/pid")
            .is_ok_and(|l| l.to_string_lossy().starts_with("pid:["))
    );
    say!(
        "child's own {}",
        run(|| {
            let me = unsafe { getpid() };
            (std::fs::read_link("/proc/self").unwrap().to_string_lossy() != me.to_string()) as i32
        })
    );
}

fn stat_fields() {
    let s = text("/proc/self/stat");
    let (head, rest) = s.rsplit_once(") ").unwrap();
    let f: Vec<&str> = rest.split_whitespace().collect();
    let n = |i: usize| f[i - 3].parse::<i64>().unwrap();
    say!(
        "fields {} comm {}",
        f.len() + 2,
        head.split_once('(').unwrap().1.len() > 2
    );
    unsafe {
        say!(
            "state {} ppid {} pgrp {} session {}",
            f[0],
            n(4) == getppid() as i64,
            n(5) == getpgrp() as i64,
            n(6) == getsid(0) as i64
        );
    }
    let base = i64::from(niceness());
    say!(
        "threads {} prio {} nice {}",
        n(20),
        n(18) - base,
        n(19) - base
    );
    let uptime = text("/proc/uptime");
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    say!(
        "vsize {} rss {} start {}",
        n(23) > 1 << 20,
        n(24) > 50,
        // In ticks since boot, which may have been less than one ago.
        (0..=(uptime * 100.0).round() as i64).contains(&n(22))
    );
    say!(
        "exit signal {} last cpu {}",
        n(38),
        n(39) >= 0 && n(39) < 1024
    );
    sys!(prctl(PR_SET_NAME, c"a) b (c".as_ptr())).v();
    say!(
        "strange name {}",
        text("/proc/self/stat").contains("(a) b (c) ")
    );
}

fn status_fields() {
    let s = text("/proc/self/status");
    let get = |k: &str| {
        s.lines()
            .find_map(|l| l.strip_prefix(k))
            .map(|v| v.trim_start_matches(':').trim().to_string())
            .unwrap_or("none".into())
    };
    let pid = unsafe { getpid() }.to_string();
    say!(
        "pid {} tgid {} tracer {} threads {}",
        get("Pid") == pid,
        get("Tgid") == pid,
        get("TracerPid"),
        get("Threads")
    );
    say!("state {} umask {}", get("State"), get("Umask"));
    for k in [
        "VmPeak", "VmSize", "VmRSS", "VmHWM", "VmData", "VmStk", "VmExe", "VmLib", "RssAnon",
        "RssFile",
    ] {
        say!("{k} {}", get(k).ends_with(" kB"));
    }
    block(&[SIGUSR1]);
    set_action(SIGUSR2, SIG_IGN);
    unsafe { raise(SIGUSR1) };
    let s = text("/proc/self/status");
    for k in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        say!("{}", s.lines().find(|l| l.starts_with(k)).unwrap_or("none"));
    }
    say!(
        "caps {}",
        s.lines().filter(|l| l.starts_with("Cap")).count()
    );
    say!(
        "cpus {} switches {}",
        s.contains("Cpus_allowed_list:\t"),
        s.contains("voluntary_ctxt_switches:")
    );
}

fn statm_and_maps() {
    let s = text("/proc/self/statm");
    let f: Vec<u64> = s.split_whitespace().map(|n| n.parse().unwrap()).collect();
    say!("{} size {} resident {}", f.len(), f[0] > f[1], f[1] > 10);
    let before = f[1];
    let p = sys!(mmap(
        null_mut(),
        8 << 20,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as *mut u8;
    (0..2048).for_each(|i| unsafe { p.add(i * 4096).write_volatile(1) });
    let now: u64 = text("/proc/self/statm")
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    say!("resident grows {}", now >= before + 2000);
    let m = text("/proc/self/maps");
    say!(
        "heap or not, stack {} vvar or vdso {}",
        m.contains("[stack]"),
        m.contains("[vdso]")
    );
    say!(
        "columns {}",
        m.lines().all(|l| l.split_whitespace().count() >= 5)
    );
    say!(
        "exe {}",
        m.lines()
            .any(|l| l.ends_with("/guest") || l.ends_with("guest-dev"))
            || m.contains("guest")
    );
}

fn system_files() {
    let m = text("/proc/meminfo");
    for k in [
        "MemTotal:",
        "MemFree:",
        "MemAvailable:",
        "Buffers:",
        "Cached:",
        "SwapTotal:",
        "SwapFree:",
        "AnonPages:",
        "Mapped:",
        "Shmem:",
        "Slab:",
    ] {
        say!(
            "{k} {}",
            m.lines().any(|l| l.starts_with(k) && l.ends_with(" kB"))
        );
    }
    let c = text("/proc/cpuinfo");
    say!(
        "cpuinfo {} {} {}",
        c.contains("processor\t: 0"),
        c.contains("flags\t\t:"),
        c.contains("model name\t:")
    );
    let s = text("/proc/stat");
    for k in [
        "cpu  ",
        "cpu0 ",
        "intr ",
        "ctxt ",
        "btime ",
        "processes ",
        "procs_running ",
        "procs_blocked ",
    ] {
        say!("{k} {}", s.lines().any(|l| l.starts_with(k)));
    }
    say!(
        "version {}",
        text("/proc/version").starts_with("Linux version ")
    );
    say!(
        "filesystems {} {}",
        text("/proc/filesystems").contains("nodev\tproc"),
        text("/proc/filesystems").contains("nodev\ttmpfs")
    );
    say!("cmdline {}", !text("/proc/cmdline").starts_with('E'));
    say!(
        "devices {}",
        text("/proc/devices").contains("Character devices:")
    );
}

fn sysctl_files() {
    let n = |p: &str| text(p).trim().parse::<i64>().is_ok_and(|v| v > 0);
    for p in [
        "/proc/sys/kernel/pid_max",
        "/proc/sys/fs/file-max",
        "/proc/sys/fs/nr_open",
        "/proc/sys/fs/pipe-max-size",
        "/proc/sys/kernel/threads-max",
        "/proc/sys/vm/max_map_count",
    ] {
        say!("{p} {}", n(p));
    }
    say!(
        "{} {}",
        text("/proc/sys/kernel/ostype").trim(),
        !text("/proc/sys/kernel/osrelease").trim().is_empty()
    );
    let mut u: utsname = zero();
    sys!(uname(&mut u)).v();
    let rel = unsafe { std::ffi::CStr::from_ptr(u.release.as_ptr()) }
        .to_str()
        .unwrap()
        .to_string();
    say!(
        "release agrees {}",
        text("/proc/sys/kernel/osrelease").trim() == rel
    );
    let host = unsafe { std::ffi::CStr::from_ptr(u.nodename.as_ptr()) }
        .to_str()
        .unwrap()
        .to_string();
    say!(
        "hostname agrees {}",
        text("/proc/sys/kernel/hostname").trim() == host
    );
    let a = text("/proc/sys/kernel/random/uuid");
    say!(
        "uuid {} {}",
        a.trim().len(),
        a != text("/proc/sys/kernel/random/uuid")
    );
    say!(
        "boot id stays {}",
        text("/proc/sys/kernel/random/boot_id") == text("/proc/sys/kernel/random/boot_id")
    );
    say!(
        "overcommit {}",
        matches!(
            text("/proc/sys/vm/overcommit_memory").trim(),
            "0" | "1" | "2"
        )
    );
    say!("missing {}", open("/proc/sys/kernel/nothing", O_RDONLY));
}

fn pid_dirs() {
    let child = fork(|| forever());
    let names: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    say!(
        "listed {} self {}",
        names.contains(&child.to_string()),
        names.iter().any(|n| n == "self")
    );
    say!("mine {}", names.contains(&unsafe { getpid() }.to_string()));
    let p = |f: &str| format!("/proc/{child}/{f}");
    say!(
        "comm {} ppid {}",
        text(&p("comm")) == text("/proc/self/comm"),
        text(&p("status")).contains(&format!("PPid:\t{}\n", unsafe { getpid() }))
    );
    say!(
        "cwd {}",
        std::fs::read_link(p("cwd")).ok() == std::env::current_dir().ok()
    );
    for f in [
        "auxv",
        "cgroup",
        "cmdline",
        "comm",
        "cwd",
        "environ",
        "exe",
        "fd",
        "fdinfo",
        "io",
        "limits",
        "maps",
        "mem",
        "mountinfo",
        "mounts",
        "oom_score",
        "oom_score_adj",
        "root",
        "smaps",
        "stat",
        "statm",
        "status",
        "task",
        "wchan",
    ] {
        say!("{f} {}", describe(&p(f)).split(' ').next().unwrap());
    }
    let fd = open(&p("status"), O_RDONLY).fd();
    unsafe { kill(child, SIGKILL) };
    wait(child);
    say!(
        "open file of a dead process {} dir {}",
        read(fd, 10),
        describe(&p(""))
    );
}

fn fd_dir() {
    put("f", b"x");
    let fd = open("f", O_RDWR | O_APPEND).fd();
    sys!(dup2(fd, 33)).v();
    say!("{}", ls("/proc/self/fd").contains("33"));
    let i = text("/proc/self/fdinfo/33");
    say!("{:?}", i.lines().take(2).collect::<Vec<_>>());
    let e = sys!(eventfd(7, 0)).fd();
    say!(
        "eventfd {}",
        text(&format!("/proc/self/fdinfo/{e}")).contains("eventfd-count:")
    );
    close(33);
    say!("closed {}", describe("/proc/self/fd/33"));
    say!(
        "link mode {}",
        describe("/proc/self/fd/1").starts_with("link")
    );
    say!(
        "bad name {} {}",
        describe("/proc/self/fd/x"),
        describe("/proc/self/fd/-1")
    );
}

fn mounts() {
    let m = text("/proc/self/mounts");
    say!(
        "root {} proc {}",
        m.lines().any(|l| l.split(' ').nth(1) == Some("/")),
        m.lines().any(|l| l.contains(" /proc proc "))
    );
    say!("fields {}", m.lines().all(|l| l.split(' ').count() == 6));
    let i = text("/proc/self/mountinfo");
    say!(
        "mountinfo {} same count {}",
        i.lines().all(|l| l.contains(" - ")),
        i.lines().count() == m.lines().count()
    );
    say!(
        "etc mtab style {}",
        std::fs::read_link("/proc/mounts")
            .unwrap()
            .to_string_lossy()
    );
    let mut s: statfs = zero();
    sys!(statfs(c"/proc".as_ptr(), &mut s)).v();
    say!("proc magic {:#x}", s.f_type);
}

fn cmdline_environ() {
    let st = run(|| {
        exec(
            c"/bin/cat",
            &["cat", "/proc/self/cmdline", "/proc/self/environ"],
            &["X=1", "Y=two"],
        )
        .err()
    });
    say!("");
    say!("{st}");
    say!(
        "auxv {}",
        std::fs::read("/proc/self/auxv").unwrap().len() % 16
    );
    say!(
        "exe runs {}",
        run(|| exec(c"/proc/self/exe", &["guest", "--tool", "exit", "8"], &[]).err())
    );
}

fn seeking() {
    let whole = text("/proc/self/maps");
    let fd = open("/proc/self/maps", O_RDONLY).fd();
    let mut all = String::new();
    loop {
        let mut b = [0u8; 100];
        let n = sys!(read(fd, b.as_mut_ptr().cast(), 100)).v() as usize;
        if n == 0 {
            break;
        }
        all.push_str(&String::from_utf8_lossy(&b[..n]));
    }
    say!(
        "small reads make no holes {}",
        all.lines().count().abs_diff(whole.lines().count()) <= 1
    );
    let v = open("/proc/version", O_RDONLY).fd();
    say!("seek {} {}", sys!(lseek(v, 6, SEEK_SET)), read(v, 7));
    let mut b = [0u8; 5];
    sys!(pread(v, b.as_mut_ptr().cast(), 5, 0)).v();
    say!(
        "pread {} rewind {} {}",
        show(&b),
        sys!(lseek(v, 0, SEEK_SET)),
        read(v, 5)
    );
    say!("size {} beyond {}", fstat(v).st_size, {
        sys!(lseek(v, 100_000, SEEK_SET));
        read(v, 5)
    });
}

/// The numbers that one call of getdents64(2) with a small buffer finds; `None` at the end.
fn some_numbers(fd: i32) -> Option<Vec<i32>> {
    let mut b = [0u8; 128];
    let n = raw!(SYS_getdents64, fd, b.as_mut_ptr(), b.len()).v() as usize;
    let mut names = vec![];
    let mut at = 0;
    while at < n {
        let len = u16::from_ne_bytes([b[at + 16], b[at + 17]]) as usize;
        let name = b[at + 19..at + len].split(|&c| c == 0).next().unwrap();
        names.extend(std::str::from_utf8(name).unwrap().parse::<i32>());
        at += len;
    }
    (n > 0).then_some(names)
}

/// What is still there is found, whatever goes away while the directory is read.
fn dirs_that_shrink() {
    for fd in 40..80 {
        sys!(dup2(1, fd)).v();
    }
    let dir = open("/proc/self/fd", O_RDONLY).fd();
    let mut found = vec![];
    while let Some(numbers) = some_numbers(dir) {
        for fd in numbers.into_iter().filter(|fd| (40..80).contains(fd)) {
            sys!(close(fd)).v();
            found.push(fd);
        }
    }
    say!(
        "descriptors {} {}",
        found.len(),
        found == (40..80).collect::<Vec<_>>()
    );

    let pids: Vec<i32> = (0..40).map(|_| fork(|| forever())).collect();
    let dir = open("/proc", O_RDONLY).fd();
    let mut found = vec![];
    while let Some(numbers) = some_numbers(dir) {
        for pid in numbers.into_iter().filter(|p| pids.contains(p)) {
            sys!(kill(pid, SIGKILL)).v();
            wait(pid);
            found.push(pid);
        }
    }
    say!("processes {}", found.len());
    for pid in pids.into_iter().filter(|p| !found.contains(p)) {
        sys!(kill(pid, SIGKILL)).v();
        wait(pid);
    }
}

fn permissions() {
    say!(
        "write to stat {}",
        if is_root() {
            "EACCES".to_string()
        } else {
            open("/proc/self/stat", O_WRONLY).to_string()
        }
    );
    say!("status mode {}", describe("/proc/self/status"));
    say!("environ mode {}", describe("/proc/self/environ"));
    say!(
        "create {} mkdir {} unlink {} rename {}",
        open("/proc/self/new", RDWR).failed(),
        mkdir("/proc/self/new").failed(),
        unlink("/proc/self/stat").failed(),
        rename("/proc/self/stat", "/proc/self/x").failed()
    );
    if !is_root() {
        say!("init's fd {}", ls("/proc/1/fd"));
        say!(
            "init's maps {}",
            open("/proc/1/maps", O_RDONLY).failed() || true
        );
    } else {
        say!("init's fd EACCES");
        say!("init's maps true");
    }
    put("/proc/self/comm", b"new");
    say!("comm is writable {}", get("/proc/self/comm"));
    let o = open("/proc/self/oom_score_adj", O_RDWR).fd();
    say!(
        "oom adj {} {}",
        write(o, b"500\n"),
        text("/proc/self/oom_score_adj").trim()
    );
    say!("too much {}", write(o, b"5000\n"));
}

fn threads_dir() {
    let g = std::sync::Arc::new(std::sync::Barrier::new(3));
    let h: Vec<_> = (0..2)
        .map(|_| {
            let g = g.clone();
            std::thread::spawn(move || {
                g.wait();
                g.wait();
            })
        })
        .collect();
    g.wait();
    let t: Vec<_> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .collect();
    say!(
        "{} links {}",
        t.len(),
        stat("/proc/self/task").unwrap().st_nlink
    );
    for e in &t {
        let s = text(&format!("{}/status", e.path().display()));
        if !s.contains(&format!("Tgid:\t{}", unsafe { getpid() })) {
            say!("wrong group");
        }
    }
    g.wait();
    h.into_iter().for_each(|h| h.join().unwrap());
    say!(
        "other tid by /proc {}",
        describe(&format!("/proc/{}/stat", unsafe { getpid() }))
            .split(' ')
            .next()
            .unwrap()
    );
}

fn smaps_sums() {
    let s = text("/proc/self/smaps");
    let sum = |k: &str| {
        s.lines()
            .filter(|l| l.starts_with(k))
            .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>()
    };
    say!(
        "{} {} {}",
        sum("Size:") > sum("Rss:"),
        sum("Rss:") > 0,
        sum("Rss:") + 1 >= sum("Pss:")
    );
    say!(
        "one per mapping {}",
        s.lines()
            .filter(|l| l.starts_with("Size:"))
            .count()
            .abs_diff(text("/proc/self/maps").lines().count())
            <= 2
    );
    say!(
        "rollup {}",
        text("/proc/self/smaps_rollup").contains("Rss:")
    );
}

fn misc_reads() {
    say!(
        "loginuid {} cgroup {}",
        describe("/proc/self/loginuid") != "",
        text("/proc/self/cgroup").contains(':')
    );
    say!("wchan {}", text("/proc/self/wchan").len() <= 40);
    let io = text("/proc/self/io");
    say!(
        "io {}",
        ["rchar:", "wchar:", "syscr:", "syscw:", "read_bytes:"]
            .iter()
            .all(|k| io.contains(k))
    );
    let m = open("/proc/self/mem", O_RDWR).fd();
    let mut v = 0x1234u64;
    let mut b = [0u8; 8];
    say!(
        "mem read {} {}",
        sys!(pread(m, b.as_mut_ptr().cast(), 8, &raw const v as i64)),
        u64::from_ne_bytes(b) == 0x1234
    );
    say!(
        "mem write {} {:#x}",
        sys!(pwrite(
            m,
            99u64.to_ne_bytes().as_ptr().cast(),
            8,
            &raw mut v as i64
        )),
        unsafe { (&raw const v).read_volatile() }
    );
    say!(
        "mem hole {}",
        sys!(pread(m, b.as_mut_ptr().cast(), 8, 4096))
    );
}

fn uptime_and_load() {
    let u = text("/proc/uptime");
    let f: Vec<f64> = u.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let mut t: timespec = zero();
    unsafe { clock_gettime(CLOCK_BOOTTIME, &mut t) };
    say!(
        "{} agrees with the clock {}",
        f.len(),
        (f[0] - t.tv_sec as f64).abs() < 2.0
    );
    let l = text("/proc/loadavg");
    let f: Vec<&str> = l.split_whitespace().collect();
    say!(
        "{} {} {}",
        f.len(),
        f[..3].iter().all(|n| n.parse::<f64>().is_ok()),
        f[3].contains('/')
    );
    let mut s: sysinfo = zero();
    sys!(sysinfo(&mut s)).v();
    say!("sysinfo agrees {}", (s.uptime - t.tv_sec).abs() <= 2);
    let btime: i64 = text("/proc/stat")
        .lines()
        .find_map(|l| l.strip_prefix("btime "))
        .unwrap()
        .parse()
        .unwrap();
    let now = unsafe { time(null_mut()) };
    say!("btime {}", (now - btime - t.tv_sec).abs() <= 3);
}

fn net_unix() {
    let all = text("/proc/net/unix");
    say!("{}", all.lines().next().unwrap_or(""));
    // Our sockets, by the inode numbers that fstat tells.
    let ino = |fd: i32| fstat(fd).st_ino.to_string();
    let row = |fd: i32| {
        let (all, ino) = (text("/proc/net/unix"), ino(fd));
        let row = all
            .lines()
            .find(|l| l.split_ascii_whitespace().nth(6) == Some(&ino));
        row.map_or("none".into(), |l| {
            // Not the address, nor the number.
            let f: Vec<&str> = l.split_ascii_whitespace().collect();
            let path = f.get(7).map_or("-".to_string(), |p| {
                p.replace(&unsafe { getpid() }.to_string(), "PID")
            });
            format!("{} {} {} {} {} {path}", f[1], f[2], f[3], f[4], f[5])
        })
    };
    let socket = |kind: i32| sys!(socket(AF_UNIX, kind, 0)).fd();
    let address = |name: &[u8]| {
        let mut a: sockaddr_un = zero();
        a.sun_family = AF_UNIX as u16;
        for (d, s) in a.sun_path.iter_mut().zip(name) {
            *d = *s as i8;
        }
        (a, (2 + name.len()) as u32)
    };
    for (n, kind) in [
        ("stream", SOCK_STREAM),
        ("dgram", SOCK_DGRAM),
        ("seqpacket", SOCK_SEQPACKET),
    ] {
        let s = socket(kind);
        say!("{n} new: {}", row(s));
        let (a, len) = address(format!("sock-{n}\0").as_bytes());
        sys!(bind(s, (&raw const a).cast(), len)).v();
        say!("bound: {}", row(s));
        if kind != SOCK_DGRAM {
            sys!(listen(s, 5)).v();
            say!("listening: {}", row(s));
            let c = socket(kind);
            sys!(connect(c, (&raw const a).cast(), len)).v();
            say!("connected: {}", row(c));
            say!("listening: {}", row(s));
            let t = sys!(accept(s, null_mut(), null_mut())).fd();
            say!("accepted: {}", row(t));
            close(c);
            say!("its peer closed: {}", row(t));
        } else {
            let c = socket(kind);
            sys!(connect(c, (&raw const a).cast(), len)).v();
            say!("connected: {} to {}", row(c), row(s));
        }
        let p = pair(kind);
        say!("pair: {} {}", row(p[0]), row(p[1]));
    }
    let s = socket(SOCK_STREAM);
    let name = format!("\0abstract-{}", unsafe { getpid() });
    let (a, len) = address(name.as_bytes());
    sys!(bind(s, (&raw const a).cast(), len)).v();
    say!("abstract: {}", row(s));
    let s = socket(SOCK_DGRAM);
    let (a, len) = address(format!("\0zero-{}\0end", unsafe { getpid() }).as_bytes());
    sys!(bind(s, (&raw const a).cast(), len)).v();
    say!("zeros: {}", row(s));
    let number = ino(s);
    close(s);
    let gone = !text("/proc/net/unix")
        .lines()
        .any(|l| l.split_ascii_whitespace().nth(6) == Some(&number));
    say!("closed: {gone}");
}
