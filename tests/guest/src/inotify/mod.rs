//! inotify(7).

use crate::prelude::*;

tests![
    files,
    directories,
    moves,
    masks_and_flags,
    removal,
    errors,
    queue,
    links_and_children,
    end_of_file,
    end_of_open_directory
];

fn new() -> i32 {
    sys!(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)).fd()
}

fn watch(fd: i32, p: &str, mask: u32) -> R {
    let p = cs(p);
    sys!(inotify_add_watch(fd, p.as_ptr(), mask))
}

/// The events there are, cookies only as equal or not.
fn events(fd: i32) -> String {
    #[repr(align(8))]
    struct Buf([u8; 8192]);
    let mut b = Buf([0; 8192]);
    let r = sys!(read(fd, b.0.as_mut_ptr().cast(), 8192));
    if r.failed() {
        return r.to_string();
    }
    let mut out = vec![];
    let mut at = 0;
    let mut cookies = vec![];
    while at < r.0 as usize {
        let w = |o: usize| u32::from_ne_bytes(b.0[at + o..at + o + 4].try_into().unwrap());
        let (wd, mask, cookie, len) = (w(0), w(4), w(8), w(12) as usize);
        let name = &b.0[at + 16..at + 16 + len];
        let name = &name[..name.iter().position(|c| *c == 0).unwrap_or(len)];
        let mut s = vec![];
        for (n, m) in [
            ("ACCESS", IN_ACCESS),
            ("MODIFY", IN_MODIFY),
            ("ATTRIB", IN_ATTRIB),
            ("CLOSE_WRITE", IN_CLOSE_WRITE),
            ("CLOSE_NOWRITE", IN_CLOSE_NOWRITE),
            ("OPEN", IN_OPEN),
            ("MOVED_FROM", IN_MOVED_FROM),
            ("MOVED_TO", IN_MOVED_TO),
            ("CREATE", IN_CREATE),
            ("DELETE", IN_DELETE),
            ("DELETE_SELF", IN_DELETE_SELF),
            ("MOVE_SELF", IN_MOVE_SELF),
            ("UNMOUNT", IN_UNMOUNT),
            ("OVERFLOW", IN_Q_OVERFLOW),
            ("IGNORED", IN_IGNORED),
            ("ISDIR", IN_ISDIR),
        ] {
            if mask & m != 0 {
                s.push(n);
            }
        }
        let c = if cookie == 0 {
            String::new()
        } else {
            let k = cookies
                .iter()
                .position(|c| *c == cookie)
                .unwrap_or_else(|| {
                    cookies.push(cookie);
                    cookies.len() - 1
                });
            format!(" c{k}")
        };
        out.push(format!(
            "{wd}:{}{}{c}",
            s.join("|"),
            if name.is_empty() {
                String::new()
            } else {
                format!(" {}", String::from_utf8_lossy(name))
            }
        ));
        at += 16 + len;
    }
    out.join(", ")
}

fn files() {
    put("f", b"x");
    let i = new();
    say!("{}", watch(i, "f", IN_ALL_EVENTS));
    let fd = open("f", O_RDWR).fd();
    say!("{}", events(i));
    write(fd, b"yy");
    read(fd, 1);
    sys!(pread(fd, [0u8; 4].as_mut_ptr().cast(), 4, 0));
    say!("{}", events(i));
    sys!(ftruncate(fd, 1));
    chmod("f", 0o600);
    say!("{}", events(i));
    close(fd);
    close(open("f", O_RDONLY).fd());
    say!("{}", events(i));
    rename("f", "g");
    say!("{}", events(i));
    link("g", "h");
    say!("{}", events(i));
    unlink("h");
    say!("{}", events(i));
    unlink("g");
    say!("{} {}", events(i), events(i));
}

fn directories() {
    mkdir("d");
    let i = new();
    watch(i, "d", IN_ALL_EVENTS & !(IN_OPEN | IN_CLOSE | IN_ACCESS)).v();
    put("d/a", b"1");
    mkdir("d/s");
    symlink("a", "d/l");
    link("d/a", "d/b");
    say!("{}", events(i));
    chmod("d/a", 0o600);
    unlink("d/b");
    rmdir("d/s");
    unlink("d/l");
    say!("{}", events(i));
    sys!(mkfifo(c"d/p".as_ptr(), 0o600));
    unlink("d/p");
    chmod("d", 0o700);
    say!("{}", events(i));
    unlink("d/a");
    rmdir("d");
    say!("{}", events(i));
}

fn moves() {
    mkdir("a");
    mkdir("b");
    put("a/f", b"");
    let i = new();
    let m = IN_MOVE | IN_MOVE_SELF | IN_DELETE_SELF | IN_CREATE | IN_DELETE;
    say!("{} {}", watch(i, "a", m), watch(i, "b", m));
    rename("a/f", "b/g");
    say!("{}", events(i));
    rename("b/g", "b/h");
    say!("{}", events(i));
    put("out", b"");
    rename("out", "a/in");
    rename("b/h", "away");
    say!("{}", events(i));
    put("a/x", b"");
    put("a/y", b"");
    events(i);
    rename("a/x", "a/y");
    say!("over another {}", events(i));
    rename("a", "c");
    say!("itself {}", events(i));
}

fn masks_and_flags() {
    mkdir("d");
    put("d/f", b"");
    let i = new();
    say!(
        "same number {} {}",
        watch(i, "d", IN_CREATE),
        watch(i, "d", IN_DELETE)
    );
    put("d/a", b"");
    unlink("d/a");
    say!("replaced mask {}", events(i));
    watch(i, "d", IN_CREATE | IN_MASK_ADD).v();
    put("d/a", b"");
    unlink("d/a");
    say!("added {}", events(i));
    say!("MASK_CREATE {}", watch(i, "d", IN_CREATE | IN_MASK_CREATE));
    say!(
        "ONLYDIR {} {}",
        watch(i, "d/f", IN_OPEN | IN_ONLYDIR),
        watch(i, "d", IN_OPEN | IN_ONLYDIR | IN_MASK_ADD)
    );
    let j = new();
    watch(j, "d/f", IN_OPEN | IN_ONESHOT).v();
    close(open("d/f", O_RDONLY).fd());
    close(open("d/f", O_RDONLY).fd());
    say!("oneshot {}", events(j));
    symlink("d", "s");
    say!(
        "through link {} itself {}",
        watch(j, "s", IN_CREATE),
        watch(j, "s", IN_CREATE | IN_DONT_FOLLOW)
    );
}

fn removal() {
    mkdir("d");
    let i = new();
    let w = watch(i, "d", IN_CREATE).v() as i32;
    put("d/a", b"");
    say!("{} {}", sys!(inotify_rm_watch(i, w)), events(i));
    say!(
        "again {} unknown {}",
        sys!(inotify_rm_watch(i, w)),
        sys!(inotify_rm_watch(i, 99))
    );
    put("d/b", b"");
    say!("{}", events(i));
    say!("numbers are not reused {}", watch(i, "d", IN_CREATE));
}

fn errors() {
    put("f", b"");
    let i = new();
    say!(
        "missing {} no mask {} bad fd {} not inotify {}",
        watch(i, "no", IN_OPEN),
        watch(i, "f", 0),
        watch(-1, "f", IN_OPEN),
        watch(pipe()[0], "f", IN_OPEN)
    );
    say!("init flags {}", sys!(inotify_init1(1)));
    say!("empty {} write {}", events(i), write(i, b"x"));
    watch(i, "f", IN_OPEN).v();
    close(open("f", O_RDONLY).fd());
    say!("small buffer {}", read(i, 10));
    let mut n = 0i32;
    say!("FIONREAD {} {n}", sys!(ioctl(i, FIONREAD as _, &mut n)));
    say!("{n}");
    let mut p = pollfd {
        fd: i,
        events: POLLIN,
        revents: 0,
    };
    say!(
        "poll {} then {} {}",
        sys!(poll(&mut p, 1, 0)),
        events(i),
        sys!(poll(&mut p, 1, 0))
    );
    if !is_root() {
        put("secret", b"");
        chmod("secret", 0);
        say!("not readable {}", watch(i, "secret", IN_OPEN));
    } else {
        say!("not readable EACCES");
    }
}

fn queue() {
    put("f", b"");
    let i = new();
    watch(i, "f", IN_MODIFY | IN_ATTRIB).v();
    let fd = open("f", O_WRONLY).fd();
    for _ in 0..5 {
        write(fd, b"x");
    }
    say!("equal ones are merged {}", events(i));
    for _ in 0..3 {
        write(fd, b"x");
        chmod("f", 0o600);
    }
    say!("{}", events(i));
    sys!(fcntl(i, F_SETFL, 0));
    let t = std::thread::spawn(move || events(i));
    ms(10);
    write(fd, b"wake");
    say!("{}", t.join().unwrap());
}

fn links_and_children() {
    mkdir("d");
    put("d/f", b"");
    link("d/f", "other");
    let i = new();
    watch(i, "d", IN_MODIFY | IN_OPEN).v();
    close(open("other", O_WRONLY).fd());
    say!("by another name, outside {}", events(i));
    let st = run(|| {
        close(open("d/f", O_RDONLY).fd());
        0
    });
    say!("{st} {}", events(i));
    mkdir("d/s");
    put("d/s/deep", b"");
    say!("not recursive {}", events(i));
}

fn end_of_file() {
    let n = new();
    let m = IN_DELETE_SELF | IN_ATTRIB | IN_MODIFY | IN_CLOSE | IN_OPEN;
    // Nobody has it open: it ends with its name.
    put("f", b"1");
    watch(n, "f", m).v();
    say!("closed file {} {}", unlink("f"), events(n));
    // Somebody has: it ends when the last one lets go.
    put("f", b"1");
    let fd = open("f", O_RDWR).fd();
    watch(n, "f", m).v();
    say!("open file {} {}", unlink("f"), events(n));
    say!("written {} {}", write(fd, b"x"), events(n));
    let again = sys!(dup(fd)).fd();
    say!("one of two closed {} {}", close(fd), events(n));
    say!("the last one closed {} {}", close(again), events(n));
    // A mapping keeps it too.
    put("f", &[1; 4096]);
    let fd = open("f", O_RDWR).fd();
    let p = sys!(mmap(null_mut(), 4096, PROT_READ, MAP_SHARED, fd, 0)).v();
    watch(n, "f", IN_DELETE_SELF).v();
    close(fd);
    say!("mapped {} {}", unlink("f"), events(n));
    say!(
        "unmapped {} {}",
        sys!(munmap(p as *mut c_void, 4096)),
        events(n)
    );
    // So does another name, but not a child's descriptor that has gone.
    put("f", b"1");
    link("f", "g").v();
    let fd = open("f", O_RDONLY).fd();
    watch(n, "f", IN_DELETE_SELF).v();
    say!("one of two names {} {}", unlink("f"), events(n));
    say!("the other {} {}", unlink("g"), events(n));
    close(fd);
    say!("closed {}", events(n));
    put("f", b"1");
    let fd = open("f", O_RDONLY).fd();
    watch(n, "f", IN_DELETE_SELF).v();
    let gate = Gate::new();
    let child = fork(|| {
        gate.pass();
        0
    });
    unlink("f").v();
    close(fd);
    say!("a child has it {}", events(n));
    gate.open();
    say!("{} {}", wait(child), events(n));
    // Replaced by a rename.
    put("f", b"1");
    put("h", b"2");
    let fd = open("f", O_RDONLY).fd();
    watch(n, "f", IN_DELETE_SELF | IN_ATTRIB).v();
    say!("replaced {} {}", rename("h", "f"), events(n));
    say!("closed {} {}", close(fd), events(n));
    // Linked again while it has no name.
    put("f", b"1");
    let fd = open("f", O_RDONLY).fd();
    watch(n, "f", IN_DELETE_SELF).v();
    unlink("f").v();
    say!(
        "watched by its descriptor {}",
        watch(n, &format!("/proc/self/fd/{fd}"), IN_DELETE_SELF | IN_CLOSE).ok()
    );
    say!("closed {} {}", close(fd), events(n));
    say!("unlinked before it was watched {}", {
        put("f", b"1");
        let fd = open("f", O_RDONLY).fd();
        unlink("f").v();
        watch(n, &format!("/proc/self/fd/{fd}"), IN_DELETE_SELF).v();
        close(fd);
        events(n)
    });
}

fn end_of_open_directory() {
    let n = new();
    mkdir("d").v();
    let fd = open("d", O_RDONLY | O_DIRECTORY).fd();
    watch(n, "d", IN_DELETE_SELF).v();
    say!("open {} {}", rmdir("d"), events(n));
    say!("closed {} {}", close(fd), events(n));
    mkdir("d").v();
    let st = run(|| {
        let here = cs("d");
        sys!(chdir(here.as_ptr())).v();
        let n = new();
        watch(n, ".", IN_DELETE_SELF).v();
        say!("working directory {} {}", rmdir("../d"), events(n));
        sys!(chdir(c"..".as_ptr())).v();
        say!("left {}", events(n));
        0
    });
    say!("{st}");
    // A fifo and a socket file.
    sys!(mkfifo(c"p".as_ptr(), 0o600)).v();
    let fd = open("p", O_RDWR).fd();
    watch(n, "p", IN_DELETE_SELF).v();
    say!("fifo {} {}", unlink("p"), events(n));
    say!("closed {} {}", close(fd), events(n));
}
