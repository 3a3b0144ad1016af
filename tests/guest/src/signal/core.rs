//! The core bit of a wait status, core(5).

use crate::common::CORE_MAX;
use crate::prelude::*;

fn limit(bytes: u64) {
    let l = rlimit {
        rlim_cur: bytes,
        rlim_max: CORE_MAX,
    };
    sys!(setrlimit(RLIMIT_CORE, &l)).v();
}

fn dumped(how: impl FnOnce() -> i32) -> String {
    let st = run(how);
    format!("{st} core {}", WCOREDUMP(st.0))
}

/// Only with the plain file name and room for the file is it the limit that decides.
fn limit_decides() -> bool {
    let mut l: rlimit = zero();
    sys!(getrlimit(RLIMIT_CORE, &mut l)).v();
    l.rlim_max == CORE_MAX
        && std::fs::read_to_string("/proc/sys/kernel/core_pattern")
            .is_ok_and(|s| s.trim() == "core")
}

pub fn core_bit() {
    if !limit_decides() {
        // What a machine answers, where the host's answer is its administrator's.
        for s in [
            "SIGQUIT", "SIGILL", "SIGABRT", "SIGSEGV", "SIGXCPU", "SIGSYS",
        ] {
            say!("killed {s} core true");
        }
        for s in ["SIGTERM", "SIGKILL", "SIGALRM"] {
            say!("killed {s} core false");
        }
        say!("limit 0: killed SIGSEGV core false");
        say!("limit 4095: killed SIGSEGV core false");
        say!("limit 4096: killed SIGSEGV core true");
        say!("not dumpable: killed SIGSEGV core false");
        say!("fault: killed SIGSEGV core true");
        say!("waitid true");
        return;
    }
    let die = |s| {
        move || {
            unsafe { raise(s) };
            0
        }
    };
    limit(CORE_MAX);
    for s in [SIGQUIT, SIGILL, SIGABRT, SIGSEGV, SIGXCPU, SIGSYS] {
        say!("{}", dumped(die(s)));
    }
    for s in [SIGTERM, SIGKILL, SIGALRM] {
        say!("{}", dumped(die(s)));
    }
    for l in [0, 4095, 4096] {
        limit(l);
        say!("limit {l}: {}", dumped(die(SIGSEGV)));
    }
    limit(CORE_MAX);
    say!(
        "not dumpable: {}",
        dumped(|| {
            unsafe { prctl(PR_SET_DUMPABLE, 0) };
            die(SIGSEGV)()
        })
    );
    say!(
        "fault: {}",
        dumped(|| {
            unsafe { (8 as *mut u8).write_volatile(1) };
            0
        })
    );
    let pid = fork(die(SIGABRT));
    let mut i: siginfo_t = zero();
    sys!(waitid(P_PID, pid as u32, &mut i, WEXITED)).v();
    say!(
        "waitid {}",
        i.si_code == CLD_DUMPED && unsafe { i.si_status() } == SIGABRT
    );
}
