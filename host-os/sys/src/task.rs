//! Processes and threads of the host.

use crate::raw::{Result, call3, call6, syscall0};

/// A set of host CPUs as sched_setaffinity(2) takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet(pub [u64; 16]);

impl CpuSet {
    /// The set of just `cpu`.
    pub fn of(cpu: usize) -> CpuSet {
        let mut s = CpuSet([0; 16]);
        if let Some(w) = s.0.get_mut(cpu / 64) {
            *w = 1 << (cpu % 64);
        }
        s
    }
    /// The CPUs in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..1024).filter(|i| self.0[i / 64] >> (i % 64) & 1 != 0)
    }
}

/// gettid(2).
pub fn gettid() -> i32 {
    // SAFETY: no arguments, no effects.
    unsafe { syscall0(libc::SYS_gettid) as i32 }
}

/// getpid(2).
pub fn getpid() -> i32 {
    // SAFETY: no arguments, no effects.
    unsafe { syscall0(libc::SYS_getpid) as i32 }
}

/// getppid(2).
pub fn getppid() -> i32 {
    // SAFETY: no arguments, no effects.
    unsafe { syscall0(libc::SYS_getppid) as i32 }
}

/// kill(2). Signal 0 only checks.
pub fn kill(pid: i32, signo: i32) -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_kill, pid as usize, signo as usize, 0)? };
    Ok(())
}

/// tgkill(2). Signal 0 only checks. Usable in signal handlers.
pub fn tgkill(tgid: i32, tid: i32, signo: i32) -> Result {
    // SAFETY: no memory involved.
    unsafe {
        call3(
            libc::SYS_tgkill,
            tgid as usize,
            tid as usize,
            signo as usize,
        )?
    };
    Ok(())
}

/// A child's end as waitid(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Process.
    pub pid: i32,
    /// `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED`.
    pub code: i32,
    /// Exit status or signal.
    pub status: i32,
}

/// Waits for the end of a child (`pid`, or any child for −1) and reaps it.
/// `None` with `WNOHANG` in `options`: none has ended.
pub fn wait_child(pid: i32, options: i32) -> Result<Option<Ended>> {
    match pid {
        0.. => wait(libc::P_PID, pid, options),
        _ => wait(libc::P_ALL, 0, options),
    }
}

/// As [`wait_child`], for any child in process group `group`.
pub fn wait_group(group: i32, options: i32) -> Result<Option<Ended>> {
    wait(libc::P_PGID, group, options)
}

fn wait(kind: libc::idtype_t, id: i32, options: i32) -> Result<Option<Ended>> {
    let mut info = [0u32; 32];
    let args = [
        kind as usize,
        id as usize,
        info.as_mut_ptr() as usize,
        (libc::WEXITED | libc::__WALL | options) as usize,
        0,
        0,
    ];
    // SAFETY: writes a siginfo_t (128 bytes) to `info`.
    unsafe { call6(libc::SYS_waitid, args)? };
    Ok((info[4] != 0).then(|| Ended {
        pid: info[4] as i32,
        code: info[2] as i32,
        status: info[6] as i32,
    }))
}

/// sched_yield(2).
pub fn yield_now() {
    // SAFETY: no memory involved.
    let _ = unsafe { call3(libc::SYS_sched_yield, 0, 0, 0) };
}

/// sched_getaffinity(2) of a thread (0 = this one).
pub fn affinity(tid: i32) -> Result<CpuSet> {
    let mut set = CpuSet([0; 16]);
    // SAFETY: writes at most 128 bytes to the set.
    unsafe {
        call3(
            libc::SYS_sched_getaffinity,
            tid as usize,
            128,
            set.0.as_mut_ptr() as usize,
        )?;
    }
    Ok(set)
}

/// sched_setaffinity(2) of a thread (0 = this one).
pub fn set_affinity(tid: i32, set: &CpuSet) -> Result {
    // SAFETY: reads 128 bytes of the set.
    unsafe {
        call3(
            libc::SYS_sched_setaffinity,
            tid as usize,
            128,
            set.0.as_ptr() as usize,
        )?
    };
    Ok(())
}

/// Asks the host to run this thread soon after it becomes ready: with the
/// shortest time slice (Linux 6.12 and later), which brings its turn forward, and the
/// best nice value if that is allowed. For threads that do little.
pub fn hurry() {
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let mut attr = Attr {
        size: size_of::<Attr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: -20,
        priority: 0,
        runtime_ns: 100_000,
        deadline_ns: 0,
        period_ns: 0,
    };
    for nice in [-20, 0] {
        attr.nice = nice;
        // SAFETY: reads the structure. A host that refuses leaves things as they are.
        let done = unsafe { call3(libc::SYS_sched_setattr, 0, &raw const attr as usize, 0) };
        if done.is_ok() {
            return;
        }
    }
}

/// prctl(2) with a number as its argument.
///
/// # Safety
/// `op` must not take a pointer, nor change how this process's memory is used.
pub unsafe fn prctl(op: i32, arg: usize) -> Result<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(libc::SYS_prctl, [op as usize, arg, 0, 0, 0, 0]) }
}

/// Soft and hard value of a resource limit.
pub fn limit(resource: u32) -> Result<(u64, u64)> {
    let mut lim = [0u64; 2];
    let args = [0, resource as usize, 0, lim.as_mut_ptr() as usize, 0, 0];
    // SAFETY: writes 16 bytes to `lim`.
    unsafe { call6(libc::SYS_prlimit64, args)? };
    Ok((lim[0], lim[1]))
}

/// Sets a resource limit of this process.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result {
    let lim = [soft, hard];
    let args = [0, resource as usize, lim.as_ptr() as usize, 0, 0, 0];
    // SAFETY: reads 16 bytes of `lim`.
    unsafe { call6(libc::SYS_prlimit64, args)? };
    Ok(())
}

/// Ends the whole process.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { call3(libc::SYS_exit_group, status as usize, 0, 0) };
    }
}
