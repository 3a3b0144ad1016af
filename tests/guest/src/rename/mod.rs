//! rename(2), renameat2(2).

use crate::prelude::*;

tests![
    basic,
    over_existing,
    types,
    into_itself,
    trailing_slashes,
    dots,
    noreplace,
    exchange,
    hard_links,
    open_files,
    across_dirs,
    dir_contents,
    symlinks,
    permissions,
    whiteout_flag,
    concurrent,
    mount_points,
];

fn r2(a: &str, b: &str, flags: u32) -> R {
    let (a, b) = (cs(a), cs(b));
    raw!(
        SYS_renameat2,
        AT_FDCWD,
        a.as_ptr(),
        AT_FDCWD,
        b.as_ptr(),
        flags
    )
}

fn basic() {
    put("a", b"A");
    say!("{} {} {}", rename("a", "b"), describe("a"), get("b"));
    say!("missing {}", rename("a", "c"));
    say!("to missing dir {}", rename("b", "no/c"));
    say!("empty {} {}", rename("", "x"), rename("b", ""));
    say!("same name {} {}", rename("b", "b"), get("b"));
    say!("long {}", rename("b", &"x".repeat(256)));
    let ino = stat("b").unwrap().st_ino;
    rename("b", "c");
    say!("same inode {}", stat("c").unwrap().st_ino == ino);
    say!("{}", ls("."));
}

fn over_existing() {
    put("a", b"A");
    put("b", b"old B");
    let fd = open("b", O_RDONLY).fd();
    say!("{} {}", rename("a", "b"), get("b"));
    say!(
        "old still open {} links {}",
        read(fd, 10),
        fstat(fd).st_nlink
    );
    mkdir("d");
    mkdir("e");
    say!("empty dir over empty dir {}", rename("d", "e"));
    mkdir("f");
    put("f/x", b"");
    say!("over full dir {}", rename("e", "f"));
    say!("full over empty {}", rename("f", "e"));
    say!("{} {}", ls("."), ls("e"));
}

fn types() {
    put("file", b"");
    mkdir("dir");
    symlink("nowhere", "link");
    say!("file over dir {}", rename("file", "dir"));
    say!("dir over file {}", rename("dir", "file"));
    say!("dir over link {}", rename("dir", "link"));
    say!("link over dir {}", rename("link", "dir"));
    say!("file over link {}", rename("file", "link"));
    say!("{}", describe("link"));
    say!("below file {}", rename("dir", "link/x"));
    say!("from below file {}", rename("link/x", "y"));
}

fn into_itself() {
    mkdir("a");
    mkdir("a/b");
    mkdir("a/b/c");
    say!("into child {}", rename("a", "a/x"));
    say!("into grandchild {}", rename("a", "a/b/x"));
    say!("over own child {}", rename("a", "a/b"));
    say!("over parent {}", rename("a/b", "a"));
    say!("over grandparent {}", rename("a/b/c", "a"));
    say!("sibling {}", rename("a/b/c", "a/d"));
    say!("{} {}", ls("a"), ls("a/b"));
    say!("through link {}", {
        symlink("a/b", "s");
        rename("a", "s/x")
    });
}

fn trailing_slashes() {
    put("f", b"");
    mkdir("d");
    say!("file/ {}", rename("f/", "g"));
    say!("to file/ {}", rename("f", "g/"));
    say!("dir/ {}", rename("d/", "e"));
    say!("to dir/ {}", rename("e", "d/"));
    say!("both {}", rename("d///", "e//"));
    symlink("e", "s");
    say!("link/ {}", rename("s/", "t"));
    say!("{}", ls("."));
}

fn dots() {
    mkdir("d");
    put("f", b"");
    say!(". {}", rename(".", "x"));
    say!(".. {}", rename("..", "x"));
    say!("d/. {}", rename("d/.", "x"));
    say!("d/.. {}", rename("d/..", "x"));
    say!("to . {}", rename("d", "."));
    say!("to .. {}", rename("d", ".."));
    say!("to d/. {}", rename("f", "d/."));
    say!("root {}", rename("/", "x").failed());
    say!("to root {}", rename("d", "/").failed());
    say!("{}", ls("."));
}

fn noreplace() {
    put("a", b"A");
    put("b", b"B");
    mkdir("d");
    say!("free {}", r2("a", "c", RENAME_NOREPLACE));
    say!("taken {}", r2("c", "b", RENAME_NOREPLACE));
    say!("taken by dir {}", r2("c", "d", RENAME_NOREPLACE));
    say!("same {}", r2("c", "c", RENAME_NOREPLACE));
    say!("dangling {}", {
        symlink("x", "s");
        r2("c", "s", RENAME_NOREPLACE)
    });
    say!(
        "both flags {}",
        r2("c", "e", RENAME_NOREPLACE | RENAME_EXCHANGE)
    );
    say!("{} {} {}", ls("."), get("b"), get("c"));
}

fn exchange() {
    put("a", b"A");
    put("b", b"B");
    mkdir("d");
    put("d/x", b"X");
    say!(
        "files {} {} {}",
        r2("a", "b", RENAME_EXCHANGE),
        get("a"),
        get("b")
    );
    say!("file and dir {}", r2("a", "d", RENAME_EXCHANGE));
    say!("{} {}", get("a/x"), get("d"));
    say!(
        "missing {} {}",
        r2("a", "no", RENAME_EXCHANGE),
        r2("no", "a", RENAME_EXCHANGE)
    );
    say!("with own child {}", r2("a", "a/x", RENAME_EXCHANGE));
    say!("same {}", r2("b", "b", RENAME_EXCHANGE));
    say!("{}", ls("."));
}

fn hard_links() {
    put("a", b"A");
    link("a", "b");
    say!("{} both stay: {}", rename("a", "b"), ls("."));
    say!("links {}", stat("a").unwrap().st_nlink);
    say!("away {} {}", rename("a", "c"), ls("."));
    put("x", b"X");
    say!("over one of two {}", rename("x", "b"));
    say!(
        "{} {} links {}",
        get("b"),
        get("c"),
        stat("c").unwrap().st_nlink
    );
}

fn open_files() {
    put("a", b"first");
    let fd = open("a", O_RDWR).fd();
    rename("a", "b");
    say!("{}", read(fd, 10));
    write(fd, b" more");
    say!("{} {}", get("b"), describe("a"));
    mkdir("d");
    put("d/f", b"in d");
    let d = open("d", O_RDONLY).fd();
    rename("d", "e");
    let f = sys!(openat(d, c"f".as_ptr(), O_RDONLY)).fd();
    say!("{}", read(f, 10));
}

fn across_dirs() {
    mkdir("a");
    mkdir("b");
    put("a/f", b"F");
    mkdir("a/sub");
    put("a/sub/x", b"X");
    say!("{} {} {}", rename("a/f", "b/g"), ls("a"), ls("b"));
    say!("{} {}", rename("a/sub", "b/sub"), get("b/sub/x"));
    say!(
        ".. follows {}",
        stat("b/sub/..").unwrap().st_ino == stat("b").unwrap().st_ino
    );
    say!("back over {}", rename("b/sub", "a"));
    say!("{} {}", ls("a"), ls("b"));
    say!("devices differ {}", rename("b/g", "/proc/g").failed());
}

fn dir_contents() {
    mkdir("d");
    for i in 0..30 {
        put(&format!("d/f{i}"), format!("{i}").as_bytes());
        mkdir(&format!("d/s{i}"));
        put(&format!("d/s{i}/y"), b"y");
    }
    say!("{}", rename("d", "e"));
    let good = (0..30).all(|i| {
        get(&format!("e/f{i}")) == format!("\"{i}\"") && get(&format!("e/s{i}/y")) == "\"y\""
    });
    say!("all there {good}, old {}", describe("d"));
    mkdir("d");
    say!("new empty {}", ls("d"));
}

fn symlinks() {
    put("t", b"T");
    symlink("t", "s");
    say!("the link moves {}", rename("s", "r"));
    say!("{} {}", describe("t"), describe("r"));
    mkdir("d");
    symlink("d", "sd");
    say!("through link {} {}", rename("t", "sd/t"), ls("d"));
    symlink("x", "over");
    say!(
        "link replaced {} {}",
        rename("d/t", "over"),
        describe("over")
    );
}

fn permissions() {
    if !is_root() {
        mkdir("ro");
        put("ro/f", b"");
        put("g", b"");
        chmod("ro", 0o555);
        say!("out of {}", rename("ro/f", "f"));
        say!("into {}", rename("g", "ro/g"));
        say!("within {}", rename("ro/f", "ro/h"));
        chmod("ro", 0o755);
    } else {
        say!("out of EACCES");
        say!("into EACCES");
        say!("within EACCES");
    }
}

fn whiteout_flag() {
    put("a", b"");
    say!("unknown flag {}", r2("a", "b", 0x10));
    say!(
        "exchange and whiteout {}",
        r2("a", "b", RENAME_EXCHANGE | RENAME_WHITEOUT)
    );
    say!("{}", ls("."));
}

fn concurrent() {
    put("target", b"00000000");
    let kids: Vec<i32> = (1..4)
        .map(|i| {
            fork(|| {
                for _ in 0..100 {
                    let tmp = format!("tmp{i}");
                    put(&tmp, &[b'0' + i as u8; 8]);
                    if rename(&tmp, "target").failed() {
                        return 1;
                    }
                }
                0
            })
        })
        .collect();
    let mut torn = 0;
    for _ in 0..300 {
        let v = std::fs::read("target").unwrap();
        torn += (v.len() != 8 || v.iter().any(|b| *b != v[0])) as i32;
    }
    for k in kids {
        say!("{}", wait(k));
    }
    say!("torn {torn} {}", ls("."));
}

fn mount_points() {
    put("f", b"");
    say!("proc {}", rename("/proc", "x").failed());
    say!("across {}", rename("f", "/dev/mqueue-none/f").failed());
    say!("proc entry {}", rename("/proc/version", "/proc/v").failed());
}
