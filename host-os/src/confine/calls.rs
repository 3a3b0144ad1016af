//! Host calls that the kernel process may still make, and in which forms: a seccomp filter.
//!
//! What is not in the table raises SIGSYS. No program is executed, no process made, no
//! socket; nothing is traced, mounted or loaded; no memory becomes executable. Files are
//! reached from descriptors, never from the working directory. Which files: that a filter
//! cannot see (a name is in memory), [`super::files`] can.

use super::bpf::{Answer, Row, Test, program};
use host_sys::task;
use libc::c_long;

/// What the forms of calls are about.
#[derive(Clone, Copy, Debug)]
pub struct Handles {
    /// Descriptor of the memory file.
    pub memory: i32,
    /// Descriptor of the terminal.
    pub console: Option<i32>,
    /// Process group of the user processes, 0 if there is none yet.
    pub group: i32,
    /// The machine writes host files.
    pub writes: bool,
}

const SYS_GETXATTRAT: c_long = 464;
const SYS_LISTXATTRAT: c_long = 465;
const SYS_FCHMODAT2: c_long = 452;
const SYS_RSEQ: c_long = 334;
const SYS_CLONE3: c_long = 435;
const PR_SET_VMA: i32 = 0x5356_4d41;
const TIOCGDEV: u32 = 0x8004_5432;
/// Descriptors and process numbers below this are not negative.
const NEGATIVE: u32 = 1 << 31;
/// `__O_TMPFILE`.
const O_TMPFILE: u32 = 0o20_000_000;

/// Calls that pass whatever their arguments: they act on this process's descriptors,
/// memory, threads and time, and give nothing that it has not.
const ALWAYS: [c_long; 45] = [
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_poll,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads.
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getpgid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_set_robust_list,
    SYS_RSEQ,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time.
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
];

/// The table.
pub(crate) fn rows(h: &Handles) -> Vec<Row> {
    let own = task::getpid() as u32;
    let mut rows = Vec::new();
    let mut row = |nr, forms: &[&[Test]]| {
        let allowed = |f: &&[Test]| (f.to_vec(), Answer::Allow);
        let forms = forms.iter().map(allowed).collect();
        rows.push(Row { nr, forms });
    };
    let from = |arg| Test::Below(arg, NEGATIVE);
    row(libc::SYS_newfstatat, &[&[from(0)]]);
    let no_exec = Test::Bits(2, libc::PROT_EXEC as u32, 0);
    row(libc::SYS_mmap, &[&[no_exec]]);
    row(libc::SYS_mprotect, &[&[no_exec]]);
    // Made by mknodat(2), if at all.
    let never = libc::O_CREAT as u32 | O_TMPFILE | libc::O_ASYNC as u32;
    let changing = libc::O_ACCMODE as u32 | libc::O_TRUNC as u32;
    let refused = if h.writes { never } else { never | changing };
    row(libc::SYS_openat, &[&[from(0), Test::Bits(2, refused, 0)]]);
    if crate::dir::uses_openat2() {
        row(libc::SYS_openat2, &[&[from(0)]]);
    }
    for nr in [
        libc::SYS_readlinkat,
        libc::SYS_statx,
        SYS_GETXATTRAT,
        SYS_LISTXATTRAT,
    ] {
        row(nr, &[&[from(0)]]);
    }

    // Signals: to the user processes, or to a thread of this process.
    let (group, leader) = (-h.group as u32, h.group as u32);
    let signo = |n: i32| Test::Is(1, n as u32);
    row(
        libc::SYS_kill,
        &[
            &[signo(libc::SIGKILL), from(0)],
            &[Test::Is(0, group), signo(libc::SIGKILL)],
            &[Test::Is(0, group), signo(libc::SIGSTOP)],
            &[Test::Is(0, group), signo(libc::SIGCONT)],
            &[Test::Is(0, leader), signo(libc::SIGKILL)],
            &[Test::Is(0, own), signo(libc::SIGSTOP)],
        ],
    );
    let signo = |n: i32| Test::Is(2, n as u32);
    row(
        libc::SYS_tgkill,
        &[
            &[signo(libc::SIGURG)],
            &[signo(0)],
            &[Test::Is(0, own), signo(libc::SIGABRT)],
        ],
    );
    // The end of a broken process by abort(3).
    row(
        libc::SYS_rt_sigaction,
        &[&[Test::Zero(1)], &[Test::Is(0, libc::SIGABRT as u32)]],
    );

    // Threads as pthread_create(3) makes them, through clone(2).
    let thread = (libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM) as u32;
    let more = (libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::CLONE_DETACHED) as u32;
    row(libc::SYS_clone, &[&[Test::Bits(0, !more, thread)]]);
    row(libc::SYS_sched_setattr, &[&[Test::Is(0, 0)]]);
    row(libc::SYS_prlimit64, &[&[Test::Is(0, 0), Test::Zero(2)]]);

    // Descriptors of the machine's devices.
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
    row(
        libc::SYS_fallocate,
        &[&[Test::Is(0, h.memory as u32), Test::Is(1, punch)]],
    );
    row(
        libc::SYS_fcntl,
        &[
            &[Test::Is(1, libc::F_DUPFD_CLOEXEC as u32)],
            &[Test::Is(1, libc::F_GETFL as u32)],
            &[Test::Is(1, libc::F_GETFD as u32)],
        ],
    );
    let asks = [
        libc::TCGETS as u32,
        libc::TIOCGWINSZ as u32,
        libc::TIOCGPGRP as u32,
        TIOCGDEV,
    ];
    let mut ioctl: Vec<Vec<Test>> = asks.iter().map(|r| vec![Test::Is(1, *r)]).collect();
    if let Some(tty) = h.console {
        ioctl.push(vec![
            Test::Is(0, tty as u32),
            Test::Is(1, libc::TCSETS as u32),
        ]);
        row(libc::SYS_flock, &[&[Test::Is(0, tty as u32)]]);
    }
    let ioctl: Vec<&[Test]> = ioctl.iter().map(|f| &f[..]).collect();
    row(libc::SYS_ioctl, &ioctl);
    // Sockets among the streams, to the other end only.
    let stream = Test::Below(0, 3);
    row(libc::SYS_recvfrom, &[&[stream]]);
    row(libc::SYS_sendto, &[&[stream, Test::Zero(4)]]);

    if h.writes {
        let kind = libc::S_IFMT;
        let node = |t| vec![from(0), Test::Bits(2, kind, t)];
        let nodes = [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK].map(node);
        row(libc::SYS_mknodat, &nodes.each_ref().map(|f| &f[..]));
        row(libc::SYS_mkdirat, &[&[from(0)]]);
        row(libc::SYS_unlinkat, &[&[from(0)]]);
        row(libc::SYS_symlinkat, &[&[from(1)]]);
        row(libc::SYS_linkat, &[&[from(0), from(2), Test::Is(4, 0)]]);
        row(libc::SYS_renameat2, &[&[from(0), from(2)]]);
        let no_follow = |arg| {
            Test::Bits(
                arg,
                libc::AT_SYMLINK_NOFOLLOW as u32,
                libc::AT_SYMLINK_NOFOLLOW as u32,
            )
        };
        row(libc::SYS_fchownat, &[&[from(0), no_follow(4)]]);
        row(SYS_FCHMODAT2, &[&[from(0), no_follow(3)]]);
        row(libc::SYS_utimensat, &[&[from(0), no_follow(3)]]);
        row(libc::SYS_fchmod, &[&[]]);
    }

    for nr in ALWAYS {
        row(nr, &[&[]]);
    }
    // What libc does well without: clone3(2), so that it makes threads with clone(2), whose
    // flags can be seen; names of mappings.
    let fails = |nr, tests, e: i32| Row {
        nr,
        forms: vec![(tests, Answer::Fail(e as u16))],
    };
    rows.push(fails(SYS_CLONE3, vec![], libc::ENOSYS));
    rows.push(fails(libc::SYS_membarrier, vec![], libc::ENOSYS));
    let is = |op: i32| vec![Test::Is(0, op as u32)];
    let mut prctl = fails(libc::SYS_prctl, is(PR_SET_VMA), libc::EINVAL);
    prctl.forms.push((is(libc::PR_SET_NAME), Answer::Allow));
    rows.push(prctl);
    rows
}

/// The table for user processes that share the kernel's image (engine `kml`): what the
/// kernel may do in them, and what making them needs. Memory may become
/// executable where guests have theirs.
pub(crate) fn user_rows(h: &Handles) -> Vec<Row> {
    // Trampolines lie behind the guest's end, within the same 4 GiB.
    const GUEST_END_HIGH: u32 = (hal::USER_END >> 32) as u32 + 1;
    let mut rows = rows(h);
    let mut also = |nr, tests: Vec<Test>| {
        let form = (tests, Answer::Allow);
        match rows.iter_mut().find(|r| r.nr == nr) {
            Some(r) => r.forms.push(form),
            None => rows.push(Row {
                nr,
                forms: vec![form],
            }),
        }
    };
    for nr in [libc::SYS_mmap, libc::SYS_mprotect] {
        also(nr, vec![Test::HighBelow(0, GUEST_END_HIGH)]);
    }
    let sibling = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PARENT | libc::SIGCHLD;
    also(libc::SYS_clone, vec![Test::Is(0, sibling as u32)]);
    let death = Test::Is(0, libc::PR_SET_PDEATHSIG as u32);
    also(
        libc::SYS_prctl,
        vec![death, Test::Is(1, libc::SIGKILL as u32)],
    );
    also(libc::SYS_getppid, vec![]);
    rows
}

/// What the terminal's guardian may do.
pub(crate) fn guardian_rows() -> Vec<Row> {
    let row = |nr, forms: Vec<Vec<Test>>| Row {
        nr,
        forms: forms.into_iter().map(|f| (f, Answer::Allow)).collect(),
    };
    let tty = |request| vec![Test::Is(0, 0), Test::Is(1, request)];
    vec![
        row(libc::SYS_poll, vec![vec![]]),
        row(libc::SYS_read, vec![vec![Test::Is(0, 1)]]),
        row(libc::SYS_getppid, vec![vec![]]),
        row(
            libc::SYS_ioctl,
            vec![tty(libc::TCGETS as u32), tty(libc::TCSETS as u32)],
        ),
        row(libc::SYS_restart_syscall, vec![vec![]]),
        row(libc::SYS_exit_group, vec![vec![]]),
    ]
}

/// The filter for this process.
pub(crate) fn filter(h: &Handles) -> Vec<libc::sock_filter> {
    program(&rows(h), Answer::Trap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::bpf::tests::carry_out;

    const X86_64: u32 = 0xc000_003e;

    fn handles(writes: bool) -> Handles {
        Handles {
            memory: 5,
            console: Some(9),
            group: 4321,
            writes,
        }
    }

    fn allowed(p: &[libc::sock_filter], nr: c_long, args: [u64; 6]) -> bool {
        match carry_out(p, X86_64, nr, args) {
            libc::SECCOMP_RET_ALLOW => true,
            libc::SECCOMP_RET_TRAP => false,
            other => panic!("call {nr}: {other:#x}"),
        }
    }

    #[test]
    fn every_call_that_has_no_row_is_refused() {
        for writes in [false, true] {
            let h = handles(writes);
            let (rows, p) = (rows(&h), filter(&h));
            for nr in 0..1000 {
                let n = rows.iter().filter(|r| r.nr == nr).count();
                assert!(n < 2, "call {nr} has {n} rows");
                if n == 0 {
                    assert!(!allowed(&p, nr, [0; 6]), "call {nr}");
                    assert!(!allowed(&p, nr, [5; 6]), "call {nr}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_changed_without_a_writable_bind() {
        let (p, q) = (filter(&handles(false)), filter(&handles(true)));
        let no_follow = libc::AT_SYMLINK_NOFOLLOW as u64;
        for (nr, args) in [
            (libc::SYS_openat, [7, 0, libc::O_WRONLY as u64, 0, 0, 0]),
            (libc::SYS_openat, [7, 0, libc::O_TRUNC as u64, 0, 0, 0]),
            (libc::SYS_mknodat, [7, 0, 0o100_644, 0, 0, 0]),
            (libc::SYS_mkdirat, [7, 0, 0o755, 0, 0, 0]),
            (libc::SYS_unlinkat, [7, 0, 0, 0, 0, 0]),
            (libc::SYS_symlinkat, [0, 7, 0, 0, 0, 0]),
            (libc::SYS_linkat, [7, 0, 7, 0, 0, 0]),
            (libc::SYS_renameat2, [7, 0, 7, 0, 0, 0]),
            (libc::SYS_fchownat, [7, 0, 1, 1, no_follow, 0]),
            (SYS_FCHMODAT2, [7, 0, 0o644, no_follow, 0, 0]),
            (libc::SYS_utimensat, [7, 0, 0, no_follow, 0, 0]),
            (libc::SYS_fchmod, [7, 0o644, 0, 0, 0, 0]),
        ] {
            assert!(!allowed(&p, nr, args), "call {nr}");
            assert!(allowed(&q, nr, args), "call {nr}");
            // Never from the working directory.
            let here = libc::AT_FDCWD as i64 as u64;
            let from_here = args.map(|a| if a == 7 { here } else { a });
            let by_fd = nr == libc::SYS_fchmod;
            assert!(by_fd || !allowed(&q, nr, from_here), "call {nr}");
        }
        let device = libc::S_IFCHR | 0o600;
        assert!(!allowed(
            &q,
            libc::SYS_mknodat,
            [7, 0, device.into(), 0, 0, 0]
        ));
    }

    #[test]
    fn signals_go_to_the_group() {
        let p = filter(&handles(false));
        let kill =
            |pid: i32, n: i32| allowed(&p, libc::SYS_kill, [pid as u64, n as u64, 0, 0, 0, 0]);
        assert!(
            kill(-4321, libc::SIGSTOP) && kill(-4321, libc::SIGKILL) && kill(77, libc::SIGKILL)
        );
        assert!(!kill(-1, libc::SIGKILL) && !kill(0, libc::SIGSTOP) && !kill(77, libc::SIGTERM));
        assert!(!kill(-4320, libc::SIGKILL) && !kill(77, libc::SIGSTOP));
    }
}
