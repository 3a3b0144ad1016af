//! execve(2) and what it keeps and drops.

use crate::prelude::*;

fn run_me(args: &[&str], env: &[&str]) -> St {
    let mut a = vec!["guest", "--tool"];
    a.extend(args);
    run(|| exec(&me(), &a, env).err())
}

fn script(name: &str, text: &[u8]) {
    put(name, text);
    chmod(name, 0o755).v();
}

fn try_exec(path: &str, args: &[&str]) -> String {
    let p = cs(path);
    let r = pipe2(O_CLOEXEC);
    let pid = fork(|| {
        let e = exec(&p, args, &["PATH=/bin:/usr/bin", "A=1"]).err();
        write(r[1], &[e as u8]);
        120
    });
    close(r[1]);
    let mut e = 0u8;
    let n = sys!(read(r[0], (&raw mut e).cast(), 1)).0;
    close(r[0]);
    let st = wait(pid);
    if n == 1 {
        errno_name(e as i32).into()
    } else {
        st.to_string()
    }
}

pub fn exec_args() {
    say!(
        "{}",
        run_me(
            &["echo-args", "one", "", "three words here", "-x", "ü\n"],
            &["A=1", "B=two words", "EMPTY="]
        )
    );
    say!("{}", run_me(&["echo-args"], &[]));
    say!("{}", run_me(&["exit", "33"], &[]));
    say!(
        "argv[0] is free {}",
        try_exec("/bin/sh", &["weird name", "-c", "echo $0"])
    );
    say!("no arguments {}", try_exec("/bin/true", &[]));
}

pub fn exec_env_auxv() {
    unsafe {
        say!("pagesz {}", getauxval(AT_PAGESZ));
        say!("clktck {}", getauxval(AT_CLKTCK));
        say!(
            "uid {} euid {} gid {} egid {}",
            getauxval(AT_UID) == getuid() as u64,
            getauxval(AT_EUID) == geteuid() as u64,
            getauxval(AT_GID) == getgid() as u64,
            getauxval(AT_EGID) == getegid() as u64
        );
        say!("secure {}", getauxval(AT_SECURE));
        let rnd = getauxval(AT_RANDOM) as *const [u8; 16];
        say!(
            "random {}",
            !rnd.is_null() && (*rnd).iter().any(|b| *b != 0)
        );
        say!(
            "platform {}",
            std::ffi::CStr::from_ptr(getauxval(AT_PLATFORM) as *const _)
                .to_str()
                .unwrap()
        );
        let f = std::ffi::CStr::from_ptr(getauxval(AT_EXECFN) as *const _)
            .to_str()
            .unwrap();
        say!("execfn absolute {}", f.starts_with('/'));
        say!(
            "entry {} phdr {} phnum {}",
            getauxval(AT_ENTRY) != 0,
            getauxval(AT_PHDR) != 0,
            getauxval(AT_PHNUM) > 2
        );
        say!("phent {}", getauxval(AT_PHENT));
        say!("vdso {}", getauxval(AT_SYSINFO_EHDR) != 0);
    }
    let raw = std::fs::read("/proc/self/auxv").unwrap();
    say!(
        "auxv ends with null {}",
        raw.len() % 16 == 0 && raw[raw.len() - 16..].iter().all(|b| *b == 0)
    );
    say!("environ {}", get("/proc/self/environ"));
}

pub fn exec_errors() {
    put("plain", b"just text\n");
    put("noexec", b"#!/bin/sh\n");
    mkdir("dir");
    script("empty", b"");
    script("garbage", b"\x01\x02\x03\x04 some bytes");
    for p in [
        "./missing",
        "./plain",
        "./noexec",
        "./dir",
        "./empty",
        "./garbage",
        "./plain/x",
        "",
        "/",
    ] {
        say!("{p:?}: {}", try_exec(p, &["x"]));
    }
    symlink("loop", "loop");
    say!("loop {}", try_exec("./loop", &["x"]));
    say!("long {}", try_exec(&"x".repeat(256), &["x"]));
    say!("null path {}", raw!(SYS_execve, 0, 0, 0));
    say!(
        "bad argv {}",
        run(|| raw!(SYS_execve, c"/bin/true".as_ptr(), 8, 0).err()) == St(EFAULT << 8)
    );
    say!(
        "bad argv entry {}",
        run(|| {
            let a = [8usize, 0];
            raw!(SYS_execve, c"/bin/true".as_ptr(), a.as_ptr(), 0).err()
        }) == St(EFAULT << 8)
    );
    say!("device {}", try_exec("/dev/null", &["x"]));
    sys!(mkfifo(c"fifo".as_ptr(), 0o777));
    say!("fifo {}", try_exec("./fifo", &["x"]));
}

pub fn exec_scripts() {
    script("a", b"#!/bin/sh\necho script \"$0\" \"$@\"\nexit 4\n");
    say!("{}", try_exec("./a", &["ignored", "x", "y z"]));
    script("b", b"#!/bin/echo one two  three \nrest");
    say!("{}", try_exec("./b", &["n", "arg"]));
    script("c", b"#! \t/bin/echo\n");
    say!("{}", try_exec("./c", &["n", "arg"]));
    script("d", b"#!/nonexistent/interp\n");
    say!("{}", try_exec("./d", &["n"]));
    script("e", b"#!\n");
    say!("{}", try_exec("./e", &["n"]));
    script("f", b"#!   \n");
    say!("{}", try_exec("./f", &["n"]));
    script("g", b"#!./a\n");
    say!("nested {}", try_exec("./g", &["n", "last"]));
    script("h", b"#!/bin/echo no newline");
    say!("{}", try_exec("./h", &["n"]));
    let mut long = b"#!/bin/echo ".to_vec();
    long.extend(vec![b'x'; 300]);
    script("i", &long);
    say!("long line {}", try_exec("./i", &["n"]).len() > 3);
    script("j", b"#!./j\n");
    say!("itself {}", try_exec("./j", &["n"]));
    script("k", b"#!/bin/sh\r\n");
    say!("carriage return {}", try_exec("./k", &["n"]));
    script("l", b"#!/tmp\n");
    say!("directory {}", try_exec("./l", &["n"]));
    put("m", b"#!/bin/echo unreadable\n");
    chmod("m", 0o111);
    say!("m {}", try_exec("./m", &["n"]).starts_with("exit"));
}

pub fn exec_bad_elf() {
    let good = std::fs::read(me().to_str().unwrap()).unwrap();
    let variant = |name: &str, f: &dyn Fn(&mut Vec<u8>)| {
        let mut v = good[..good.len().min(200_000)].to_vec();
        f(&mut v);
        script("bad", &v);
        let r = try_exec("./bad", &["bad", "--tool", "exit", "0"]);
        say!("{name}: {r}");
    };
    let set = |v: &mut Vec<u8>, at: usize, b: &[u8]| v[at..at + b.len()].copy_from_slice(b);
    variant("magic", &|v| v[0] = 0x7e);
    variant("16 bytes", &|v| v.truncate(16));
    variant("63 bytes", &|v| v.truncate(63));
    variant("header only", &|v| v.truncate(64));
    variant("machine", &|v| set(v, 18, &[0xb7, 0]));
    variant("type rel", &|v| set(v, 16, &[1, 0]));
    variant("type core", &|v| set(v, 16, &[4, 0]));
    variant("phentsize", &|v| set(v, 54, &[32, 0]));
    variant("phnum 0", &|v| set(v, 56, &[0, 0]));
    variant("phnum 65535", &|v| set(v, 56, &[0xff, 0xff]));
    variant("phoff beyond", &|v| set(v, 32, &[0, 0, 0, 0, 1, 0, 0, 0]));
    variant("phoff odd", &|v| {
        set(v, 32, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    });
    // Program headers: find the first PT_LOAD and break it. What survives depends on the file's layout,
    // so only what fails before the point of no return is compared by name.
    let phoff = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize;
    let phnum = u16::from_le_bytes(good[56..58].try_into().unwrap()) as usize;
    let load = (0..phnum)
        .map(|i| phoff + i * 56)
        .find(|&p| good[p] == 1)
        .unwrap();
    let fails = |name: &str, f: &dyn Fn(&mut Vec<u8>)| {
        let mut v = good.clone();
        f(&mut v);
        script("bad", &v);
        say!(
            "{name}: {}",
            if try_exec("./bad", &["bad", "--tool", "exit", "0"]) == "exit 0" {
                "runs"
            } else {
                "fails"
            }
        );
    };
    fails("untouched", &|_| {});
    fails("load vaddr in kernel half", &|v| {
        set(v, load + 16, &[0, 0, 0, 0, 0, 0x80, 0xff, 0xff])
    });
    fails("load memsz huge", &|v| set(v, load + 40, &[0xff; 8]));
    fails("load filesz above memsz", &|v| {
        set(v, load + 32, &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0])
    });
    fails("no load segments", &|v| {
        (0..phnum).for_each(|i| {
            if v[phoff + i * 56] == 1 {
                v[phoff + i * 56] = 0x55
            }
        })
    });
    script("bad", &good[..4]);
    say!("only magic: {}", try_exec("./bad", &["bad"]));
}

static HANDLED: AtomicI32 = AtomicI32::new(0);

pub fn exec_resets() {
    // Handlers go back to default, ignored stays ignored, mask and pending stay.
    let st = run(|| {
        handle(SIGUSR1, nop, 0);
        set_action(SIGUSR2, SIG_IGN);
        block(&[SIGTERM, SIGHUP]);
        unsafe { kill(getpid(), SIGHUP) };
        sys!(prctl(PR_SET_NAME, c"renamed".as_ptr()));
        exec(
            c"/bin/grep",
            &[
                "grep",
                "-E",
                "^(Name|SigBlk|SigIgn|SigCgt|ShdPnd)",
                "/proc/self/status",
            ],
            &[],
        )
        .err()
    });
    say!("{st} {}", HANDLED.load(SeqCst));
    let st = run(|| {
        unsafe { alarm(1) };
        exec(c"/bin/sh", &["sh", "-c", "while :; do :; done"], &[]).err()
    });
    say!("alarm survives: {st}");
}

pub fn exec_big_args() {
    let big = "x".repeat(100_000);
    let many: Vec<String> = (0..2000).map(|i| format!("argument-{i}")).collect();
    let mut a = vec!["sh", "-c", "echo $# ${#1}", "sh", &big];
    a.extend(many.iter().map(|s| s.as_str()));
    say!("{}", try_exec("/bin/sh", &a));
    let too = "y".repeat(131_072);
    say!("one of 128 KiB {}", try_exec("/bin/true", &["true", &too]));
    let edge = "y".repeat(131_071);
    say!("one just below {}", try_exec("/bin/true", &["true", &edge]));
    let lots: Vec<&str> = std::iter::repeat_n(big.as_str(), 60).collect();
    let mut a = vec!["true"];
    a.extend(lots);
    say!("6 MB {}", try_exec("/bin/true", &a));
}

pub fn exec_fds() {
    put("f", b"line\n");
    let fd = open("f", O_RDONLY).fd();
    sys!(dup2(fd, 7)).v();
    let p = pipe();
    sys!(dup2(p[1], 6)).v();
    say!(
        "{}",
        run(|| exec(
            c"/bin/sh",
            &["sh", "-c", "cat <&7; echo to pipe >&6"],
            &["PATH=/bin:/usr/bin"]
        )
        .err())
    );
    say!("{}", read(p[0], 50));
    say!("position shared {}", sys!(lseek(fd, 0, SEEK_CUR)));
}

pub fn exec_from_thread() {
    let pid = fork(|| {
        for _ in 0..3 {
            std::thread::spawn(|| {
                loop {
                    ms(1000)
                }
            });
        }
        std::thread::spawn(|| {
            exec(
                c"/bin/sh",
                &["sh", "-c", "exit $(ls /proc/$$/task | wc -l)"],
                &["PATH=/bin:/usr/bin"],
            )
        });
        loop {
            ms(1000)
        }
    });
    say!("same pid, one thread: {}", wait(pid));
}

pub fn exec_at() {
    let exe = me();
    let fd = sys!(open(exe.as_ptr(), O_RDONLY | O_CLOEXEC)).fd();
    let args = [
        c"guest".as_ptr(),
        c"--tool".as_ptr(),
        c"exit".as_ptr(),
        c"12".as_ptr(),
        null(),
    ];
    let env: [*const i8; 1] = [null()];
    let go = |fd: i32, p: &std::ffi::CStr, fl: i32| {
        let e = pipe2(O_CLOEXEC);
        let pid = fork(|| {
            let r = raw!(
                SYS_execveat,
                fd,
                p.as_ptr(),
                args.as_ptr(),
                env.as_ptr(),
                fl
            )
            .err();
            write(e[1], &[r as u8]);
            0
        });
        close(e[1]);
        let mut b = 0u8;
        let n = sys!(read(e[0], (&raw mut b).cast(), 1)).0;
        let st = wait(pid);
        if n == 1 {
            errno_name(b as i32).to_string()
        } else {
            st.to_string()
        }
    };
    say!("by descriptor {}", go(fd, c"", AT_EMPTY_PATH));
    say!("empty without flag {}", go(fd, c"", 0));
    say!("absolute {}", go(-1, &exe, 0));
    say!("bad fd {}", go(-1, c"x", 0));
    symlink(exe.to_str().unwrap(), "s");
    say!(
        "link {} nofollow {}",
        go(AT_FDCWD, c"s", 0),
        go(AT_FDCWD, c"s", AT_SYMLINK_NOFOLLOW)
    );
    say!("flags {}", go(fd, c"", 0x8000));
    script("sh", b"#!/bin/sh\nexit 3\n");
    let s = open("sh", O_RDONLY | O_CLOEXEC).fd();
    say!(
        "script by a descriptor that closes {}",
        go(s, c"", AT_EMPTY_PATH)
    );
    let path = open("sh", O_PATH).fd();
    say!("script by O_PATH {}", go(path, c"", AT_EMPTY_PATH));
}

pub fn exec_busy() {
    let exe = std::fs::read(me().to_str().unwrap()).unwrap();
    put("prog", &exe);
    chmod("prog", 0o755);
    let w = open("prog", O_WRONLY).fd();
    say!(
        "open for writing {}",
        try_exec("./prog", &["prog", "--tool", "exit", "0"])
    );
    close(w);
    say!(
        "closed {}",
        try_exec("./prog", &["prog", "--tool", "exit", "5"])
    );
    let p = pipe2(O_CLOEXEC);
    let pid = fork(|| exec(c"./prog", &["prog", "--tool", "spin", "5000"], &[]).err());
    close(p[1]);
    read(p[0], 1);
    say!("write while it runs {}", open("prog", O_WRONLY));
    say!("truncate {}", sys!(truncate(c"prog".as_ptr(), 0)));
    say!("unlink {}", unlink("prog"));
    unsafe { kill(pid, SIGKILL) };
    say!("{}", wait(pid));
}

pub fn exec_ids() {
    if !is_root() {
        return skip_root();
    }
    chmod(".", 0o755);
    let exe = std::fs::read(me().to_str().unwrap()).unwrap();
    put("ids", b"");
    let src = b"#!/bin/sh\nid -u; id -ru\n";
    script("suid-script", src);
    chmod("suid-script", 0o4755);
    say!(
        "setuid scripts are not honoured: {}",
        run(|| {
            sys!(setgid(1000)).v();
            sys!(setuid(1000)).v();
            exec(c"./suid-script", &["s"], &["PATH=/bin:/usr/bin"]).err()
        })
    );
    put("prog", &exe);
    chmod("prog", 0o755);
    say!(
        "exec drops nothing for root {}",
        run(|| exec(c"./prog", &["p", "--tool", "exit", "2"], &[]).err())
    );
}

pub fn exec_keeps() {
    unsafe { umask(0o031) };
    mkdir("sub");
    let st = run(|| {
        sys!(chdir(c"sub".as_ptr())).v();
        let lim = rlimit {
            rlim_cur: 55,
            rlim_max: 66,
        };
        sys!(setrlimit(RLIMIT_NOFILE, &lim)).v();
        sys!(setpriority(PRIO_PROCESS, 0, 5)).v();
        exec(c"/bin/sh", &["sh", "-c", "umask; ulimit -Sn; ulimit -Hn; basename $(pwd); nice; echo $PPID | tr 0-9 x | cut -c1"], &["PATH=/bin:/usr/bin"]).err()
    });
    say!("{st}");
}

pub fn comm_and_cmdline() {
    let st = run(|| {
        exec(
            c"/bin/sh",
            &[
                "sh",
                "-c",
                "cat /proc/$$/comm; tr '\\0' '|' < /proc/$$/cmdline; echo",
            ],
            &["PATH=/bin:/usr/bin"],
        )
        .err()
    });
    say!("{st}");
    say!("own comm {}", get("/proc/self/comm"));
    let cmd = std::fs::read("/proc/self/cmdline").unwrap();
    say!("own cmdline {}", show(&cmd));
    script("averyveryverylongname", b"#!/bin/sh\ncat /proc/$$/comm\n");
    say!("{}", try_exec("./averyveryverylongname", &["short"]));
}

pub fn exec_loop() {
    let mut bad = 0;
    for i in 0..30 {
        bad += (run_me(&["exit", &i.to_string()], &[]) != St(i << 8)) as i32;
    }
    say!("{bad}");
    say!(
        "{}",
        run(|| exec(
            c"/bin/sh",
            &[
                "sh",
                "-c",
                "i=0; while [ $i -lt 20 ]; do /bin/true || exit 1; i=$((i+1)); done; exit 17"
            ],
            &["PATH=/bin:/usr/bin"]
        )
        .err())
    );
}
