//! memfd_create(2) and seals.

use crate::prelude::*;

tests![
    basic,
    seals,
    write_seals,
    names_and_flags,
    shared_between,
    exec_of_memfd
];

fn new(flags: u32) -> i32 {
    sys!(memfd_create(c"test".as_ptr(), flags)).fd()
}

fn basic() {
    let fd = new(0);
    say!(
        "{} size {} links {}",
        kind(fstat(fd).st_mode),
        fstat(fd).st_size,
        fstat(fd).st_nlink
    );
    say!("mode {:o}", fstat(fd).st_mode & 0o777);
    say!(
        "{} {} {}",
        write(fd, b"content"),
        sys!(lseek(fd, 0, SEEK_SET)),
        read(fd, 20)
    );
    let p = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        fd,
        0
    ))
    .v() as *mut u8;
    unsafe { p.write_volatile(b'C') };
    sys!(lseek(fd, 0, SEEK_SET));
    say!("{}", read(fd, 20));
    say!(
        "punch {} {}",
        sys!(fallocate(
            fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            0,
            3
        )),
        {
            sys!(lseek(fd, 0, SEEK_SET));
            read(fd, 20)
        }
    );
    say!(
        "reopen {}",
        read(open(&format!("/proc/self/fd/{fd}"), O_RDONLY).fd(), 20)
    );
}

fn seal(fd: i32, s: i32) -> R {
    sys!(fcntl(fd, F_ADD_SEALS, s))
}

fn seals() {
    let plain = new(0);
    say!(
        "not allowed {} get {}",
        seal(plain, F_SEAL_GROW),
        sys!(fcntl(plain, F_GET_SEALS))
    );
    let fd = new(MFD_ALLOW_SEALING);
    write(fd, &[1; 100]);
    say!(
        "get {} grow {}",
        sys!(fcntl(fd, F_GET_SEALS)),
        seal(fd, F_SEAL_GROW)
    );
    say!(
        "ftruncate up {} down {} write over the end {}",
        sys!(ftruncate(fd, 200)),
        sys!(ftruncate(fd, 50)),
        write(fd, b"x")
    );
    say!(
        "pwrite inside {} fallocate {}",
        sys!(pwrite(fd, b"y".as_ptr().cast(), 1, 0)),
        sys!(fallocate(fd, 0, 0, 500))
    );
    say!(
        "shrink {} down {} seals {}",
        seal(fd, F_SEAL_SHRINK),
        sys!(ftruncate(fd, 10)),
        sys!(fcntl(fd, F_GET_SEALS))
    );
    say!(
        "seal {} more {}",
        seal(fd, F_SEAL_SEAL),
        seal(fd, F_SEAL_WRITE)
    );
    say!(
        "pipe {} unknown {}",
        seal(pipe()[0], F_SEAL_GROW),
        seal(new(MFD_ALLOW_SEALING), 0x1000)
    );
}

fn write_seals() {
    let fd = new(MFD_ALLOW_SEALING);
    write(fd, b"fixed");
    let p = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        fd,
        0
    ))
    .v();
    say!("mapped writable {}", seal(fd, F_SEAL_WRITE));
    sys!(munmap(p as *mut _, 4096)).v();
    say!(
        "unmapped {} write {}",
        seal(fd, F_SEAL_WRITE),
        sys!(pwrite(fd, b"x".as_ptr().cast(), 1, 0))
    );
    let m = |pr, fl| sys!(mmap(null_mut(), 4096, pr, fl, fd, 0)).ok();
    say!(
        "shared rw {} shared r {} private rw {}",
        m(PROT_READ | PROT_WRITE, MAP_SHARED),
        m(PROT_READ, MAP_SHARED),
        m(PROT_READ | PROT_WRITE, MAP_PRIVATE)
    );
    let r = sys!(mmap(null_mut(), 4096, PROT_READ, MAP_SHARED, fd, 0)).v();
    say!(
        "mprotect {} punch {}",
        sys!(mprotect(r as *mut _, 4096, PROT_READ | PROT_WRITE)),
        sys!(fallocate(
            fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            0,
            1
        ))
    );
    let f = new(MFD_ALLOW_SEALING);
    write(f, b"abc");
    let w = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        f,
        0
    ))
    .v() as *mut u8;
    say!(
        "future {} write {} old mapping {}",
        seal(f, F_SEAL_FUTURE_WRITE),
        sys!(pwrite(f, b"x".as_ptr().cast(), 1, 0)),
        {
            unsafe { w.write_volatile(b'W') };
            sys!(lseek(f, 0, SEEK_SET));
            read(f, 3)
        }
    );
}

fn names_and_flags() {
    say!("flags {}", sys!(memfd_create(c"x".as_ptr(), 0x4000)));
    say!(
        "cloexec {} plain {}",
        sys!(fcntl(new(MFD_CLOEXEC), F_GETFD)),
        sys!(fcntl(new(0), F_GETFD))
    );
    let long = cs(&"n".repeat(249));
    let longer = cs(&"n".repeat(250));
    say!(
        "249 {} 250 {} empty {}",
        sys!(memfd_create(long.as_ptr(), 0)).ok(),
        sys!(memfd_create(longer.as_ptr(), 0)),
        sys!(memfd_create(c"".as_ptr(), 0)).ok()
    );
    say!("pointer {}", sys!(memfd_create(8 as *const i8, 0)));
    let l = std::fs::read_link(format!("/proc/self/fd/{}", new(0))).unwrap();
    say!("{}", l.to_string_lossy());
    say!(
        "link {}",
        sys!(linkat(
            new(0),
            c"".as_ptr(),
            AT_FDCWD,
            c"l".as_ptr(),
            AT_EMPTY_PATH
        ))
        .failed()
    );
}

fn shared_between() {
    let fd = new(0);
    sys!(ftruncate(fd, 8192)).v();
    let m = || {
        sys!(mmap(
            null_mut(),
            8192,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            fd,
            0
        ))
        .v() as *mut u8
    };
    let p = m();
    let st = run(|| {
        let q = m();
        unsafe { q.add(4096).write_volatile(7) };
        0
    });
    say!("{st} {}", unsafe { p.add(4096).read_volatile() });
    close(fd);
    say!("after close {}", unsafe { p.add(4096).read_volatile() });
}

fn exec_of_memfd() {
    let fd = new(MFD_CLOEXEC);
    let exe = std::fs::read(me().to_str().unwrap()).unwrap();
    let mut at = 0;
    while at < exe.len() {
        at += write(fd, &exe[at..]).v() as usize;
    }
    let args = [
        c"guest".as_ptr(),
        c"--tool".as_ptr(),
        c"exit".as_ptr(),
        c"23".as_ptr(),
        null(),
    ];
    let env: [*const i8; 1] = [null()];
    say!(
        "open for writing {}",
        run(|| sys!(fexecve(fd, args.as_ptr(), env.as_ptr())).err()) == St(ETXTBSY << 8)
    );
    let ro = open(&format!("/proc/self/fd/{fd}"), O_RDONLY | O_CLOEXEC).fd();
    close(fd);
    say!(
        "read-only {}",
        run(|| sys!(fexecve(ro, args.as_ptr(), env.as_ptr())).err())
    );
}
