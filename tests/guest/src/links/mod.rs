//! Hard and symbolic links.

use crate::prelude::*;

tests![
    symlink_read,
    symlink_loops,
    symlink_walk,
    symlink_slashes,
    hard_basic,
    hard_errors,
    linkat_flags,
    create_through,
    dir_links,
    long_targets,
    magic_links,
    nlink_counts,
    unlink_order,
];

fn rl(p: &str, n: usize) -> String {
    let p = cs(p);
    let mut b = vec![0u8; n.max(1)];
    let r = sys!(readlink(p.as_ptr(), b.as_mut_ptr().cast(), n));
    if r.failed() {
        r.to_string()
    } else {
        format!("{r} {}", show(&b[..r.0 as usize]))
    }
}

fn symlink_read() {
    say!("{}", symlink("target", "s"));
    say!("again {}", symlink("other", "s"));
    say!("{} | {} | {}", rl("s", 100), rl("s", 3), rl("s", 0));
    say!("size {}", stat("s").unwrap().st_size);
    put("f", b"");
    say!(
        "of file {} of missing {} of dir {}",
        rl("f", 10),
        rl("no", 10),
        rl(".", 10)
    );
    say!(
        "empty target {} empty name {}",
        symlink("", "e"),
        symlink("x", "")
    );
    say!(
        "strange target {} {}",
        symlink("a//b/../c ", "t"),
        rl("t", 100)
    );
    say!("in missing dir {}", symlink("x", "no/s"));
    say!("name with slash {}", symlink("x", "new/"));
    say!("{}", describe("s"));
}

fn symlink_loops() {
    symlink("a", "a");
    symlink("c", "b");
    symlink("b", "c");
    say!(
        "self {} pair {} below {}",
        open("a", O_RDONLY),
        open("b", O_RDONLY),
        open("b/x", O_RDONLY)
    );
    say!("create {}", open("a", RDWR));
    say!("stat of it {}", describe("a").starts_with("link"));
    put("l0", b"end");
    for i in 1..=45 {
        symlink(&format!("l{}", i - 1), &format!("l{i}"));
    }
    for n in [1, 39, 40, 41, 45] {
        say!("{n}: {}", get(&format!("l{n}")));
    }
    mkdir("d");
    symlink(".", "d/s");
    put("d/f", b"f");
    say!(
        "40 in the middle: {}",
        get(&format!("d/{}f", "s/".repeat(40)))
    );
    say!(
        "41 in the middle: {}",
        get(&format!("d/{}f", "s/".repeat(41)))
    );
}

fn symlink_walk() {
    mkdir("a");
    mkdir("a/b");
    put("a/f", b"a/f");
    put("f", b"f");
    put("a/b/f", b"a/b/f");
    symlink("a/b", "s");
    symlink("../f", "a/up");
    symlink("../../f", "a/b/up2");
    symlink("./b/./", "a/dots");
    say!(
        "{} {} {} {}",
        get("s/f"),
        get("s/../f"),
        get("a/up"),
        get("s/up2")
    );
    say!("{} {}", get("a/dots/f"), get("a/dots/../f"));
    symlink("s", "ss");
    symlink("ss/../b", "sss");
    say!("{}", get("sss/f"));
    let abs = std::env::current_dir()
        .unwrap()
        .join("a")
        .to_string_lossy()
        .into_owned();
    symlink(&abs, "abs");
    say!("{} {}", get("abs/f"), get("abs/../f"));
    symlink("f/", "badslash");
    say!("{}", get("badslash"));
}

fn symlink_slashes() {
    mkdir("d");
    put("f", b"");
    symlink("d", "sd");
    symlink("f", "sf");
    symlink("none", "sn");
    for p in ["sd", "sd/", "sf", "sf/", "sn", "sn/"] {
        say!("{p}: {}", describe(p).split(' ').next().unwrap());
    }
    say!("unlink sd/ {}", unlink("sd/"));
    say!("open sf/ {}", open("sf/", O_RDONLY));
    say!(
        "open sd/ nofollow {}",
        open("sd/", O_RDONLY | O_NOFOLLOW | O_DIRECTORY).ok()
    );
    say!("mkdir sn/ {}", mkdir("sn/"));
    say!("{}", ls("."));
}

fn hard_basic() {
    put("a", b"A");
    say!("{} {}", link("a", "b"), describe("b"));
    say!(
        "same {}",
        stat("a").unwrap().st_ino == stat("b").unwrap().st_ino
    );
    let fd = open("a", O_RDWR | O_APPEND).fd();
    write(fd, b"B");
    say!("{} {}", get("b"), chmod("b", 0o600));
    say!("{}", describe("a"));
    unlink("a");
    say!("{} {}", describe("a"), describe("b"));
    mkdir("d");
    say!("{} {}", link("b", "d/c"), describe("d/c"));
}

fn hard_errors() {
    put("f", b"");
    mkdir("d");
    symlink("f", "s");
    symlink("none", "n");
    say!("dir {}", link("d", "e"));
    say!("exists {} onto dir {}", link("f", "s"), link("f", "d"));
    say!(
        "missing {} into missing {}",
        link("no", "x"),
        link("f", "no/x")
    );
    say!("link to link {}", link("s", "t"));
    say!("{}", describe("t"));
    say!("dangling {} {}", link("n", "m"), describe("m"));
    say!("slash {} {}", link("f/", "x"), link("f", "x/"));
    say!("devices {}", link("/proc/version", "v"));
    say!("self {}", link("f", "f"));
}

fn linkat_flags() {
    put("f", b"F");
    symlink("f", "s");
    let l = |a: &str, b: &str, fl| {
        let (a, b) = (cs(a), cs(b));
        sys!(linkat(AT_FDCWD, a.as_ptr(), AT_FDCWD, b.as_ptr(), fl))
    };
    say!(
        "follow {} {}",
        l("s", "a", AT_SYMLINK_FOLLOW),
        describe("a")
    );
    say!("no follow {} {}", l("s", "b", 0), describe("b"));
    say!("empty without flag {}", l("", "c", 0));
    let fd = open("f", O_RDONLY).fd();
    if is_root() {
        say!(
            "empty path: {}",
            sys!(linkat(
                fd,
                c"".as_ptr(),
                AT_FDCWD,
                c"d".as_ptr(),
                AT_EMPTY_PATH
            ))
        );
    } else {
        say!("empty path: 0");
    }
    let p = cs(&format!("/proc/self/fd/{fd}"));
    say!(
        "by proc {}",
        sys!(linkat(
            AT_FDCWD,
            p.as_ptr(),
            AT_FDCWD,
            c"e".as_ptr(),
            AT_SYMLINK_FOLLOW
        ))
    );
    say!("{}", get("e"));
}

fn create_through() {
    symlink("made", "s");
    say!("{} {}", open("s", RDWR).ok(), describe("made"));
    mkdir("d");
    symlink("d/new", "t");
    say!("{} {}", open("t", RDWR).ok(), ls("d"));
    symlink("no/new", "u");
    say!("{}", open("u", RDWR));
    symlink("made/", "v");
    say!("{}", open("v", RDWR));
}

fn dir_links() {
    mkdir("d");
    symlink("d", "s");
    put("s/f", b"x");
    say!("{} {}", ls("d"), ls("s"));
    say!("rmdir s {} unlink s {}", rmdir("s"), unlink("s"));
    say!("{}", ls("d"));
}

fn long_targets() {
    let t = "t".repeat(255);
    put(&t, b"T");
    say!("{} {}", symlink(&t, "s"), get("s"));
    let long = "./".repeat(2000) + &t[..90];
    say!("4090 {}", symlink(&long, "l").ok());
    say!("size {}", stat("l").unwrap().st_size);
    say!("read {}", rl("l", 5000).split(' ').next().unwrap());
    say!("too long {}", symlink(&"x".repeat(4096), "m"));
    say!("name too long on walk {}", {
        symlink(&"n".repeat(256), "n");
        open("n", O_RDONLY)
    });
}

fn magic_links() {
    let me = unsafe { getpid() };
    say!(
        "self {}",
        rl("/proc/self", 20) == rl("/proc/self", 20)
            && rl("/proc/self", 20).contains(&me.to_string())
    );
    say!(
        "thread-self {}",
        rl("/proc/thread-self", 40).ends_with(&format!("{me}/task/{}\"", gettid()))
    );
    say!(
        "exe {}",
        rl("/proc/self/exe", 500).ends_with("guest\"")
            || rl("/proc/self/exe", 500).contains("guest")
    );
    say!("root {}", rl("/proc/self/root", 10));
    say!("mounts {}", rl("/proc/mounts", 30));
    say!(
        "dev fd {} stdin {}",
        rl("/dev/fd", 30),
        rl("/dev/stdin", 30)
    );
    put("f", b"via magic");
    let fd = open("f", O_RDONLY).fd();
    unlink("f");
    say!("{}", get(&format!("/proc/self/fd/{fd}")));
    say!("cwd {}", get("/proc/self/cwd/f"));
    say!("unlink {}", unlink(&format!("/proc/self/fd/{fd}")));
}

fn nlink_counts() {
    put("f", b"");
    for i in 0..100 {
        link("f", &format!("l{i}"));
    }
    say!("{}", stat("f").unwrap().st_nlink);
    for i in 0..50 {
        unlink(&format!("l{i}"));
    }
    say!("{}", stat("f").unwrap().st_nlink);
    let fd = open("f", O_RDONLY).fd();
    for i in 50..100 {
        unlink(&format!("l{i}"));
    }
    unlink("f");
    say!("{}", fstat(fd).st_nlink);
}

fn unlink_order() {
    put("f", b"data");
    let a = open("f", O_RDWR).fd();
    link("f", "g");
    unlink("f");
    let b = open("g", O_RDWR).fd();
    unlink("g");
    write(a, b"DA");
    say!("{} {}", read(b, 10), fstat(b).st_nlink);
    close(a);
    say!("{}", sys!(lseek(b, 0, SEEK_END)));
}
