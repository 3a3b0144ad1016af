//! The zygote: the process that all user processes are cloned from.
//!
//! It is forked while the kernel process has one thread. It maps the stub
//! region, drops every descriptor but the memory file and the stub file, and then
//! removes everything else from its address space: image, libraries, stack,
//! vDSO. What is left is a mapper thread (see `x86_64::stub`) that waits for
//! requests to clone itself. The clones are children of the kernel process
//! (CLONE_PARENT), in the zygote's process group, which is how [`kill_all`] finds them.

use crate::Error;
use crate::engine::mapper::{Answer, MEM_FD, Mapper, STUB_FD, call};
use crate::engine::shared::{Slot, StubFile};
use crate::facts::HostFacts;
use crate::x86_64::{filter, stub};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use host_sys::raw::{call3, call6};
use host_sys::signal::{self, Action, SA_RESTORER, bit};
use host_sys::{Errno, fd, file, mem, misc, rights, task, time};

/// Signal that takes a stub thread out of guest code.
pub(crate) const KICK: i32 = libc::SIGURG;
/// Signals that the stub handles.
pub(crate) const HANDLED: [i32; 7] = [
    libc::SIGSYS,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    KICK,
];
/// Host mask of a thread that runs guest code.
pub(crate) const GUEST_MASK: u64 = {
    let mut mask = !(bit(libc::SIGKILL) | bit(libc::SIGSTOP));
    let mut i = 0;
    while i < HANDLED.len() {
        mask &= !bit(HANDLED[i]);
        i += 1;
    }
    mask
};

/// Signals by which the host reports what a thread itself does wrong.
pub(crate) const FAULTS: u64 = bit(libc::SIGSYS)
    | bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGABRT);

/// Where the zygote's child notes why it failed: step and errno.
const FAILED_STEP: u64 = 32;
const FAILED_ERRNO: u64 = 36;
const STEPS: [&str; 6] = [
    "start",
    "tie the user processes to this process",
    "map the stub",
    "pass the memory file on",
    "install the stub's signal handlers",
    "install the stub's seccomp filter",
];
const STEP_SECCOMP: u32 = 5;
const START_TIMEOUT_NS: u64 = 10_000_000_000;

/// Process group of the user processes, 0 before there is one.
static GROUP: AtomicI32 = AtomicI32::new(0);
/// [`kill_all`] has been called.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether the machine is at its end.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Notes the process group of the user processes.
pub(crate) fn set_group(pid: i32) {
    GROUP.store(pid, Ordering::Release);
}

/// What the user processes are made from.
#[derive(Clone, Copy, Debug)]
pub struct ZygoteConfig {
    /// Descriptor of the memory file. Stays the caller's.
    pub mem_fd: i32,
    /// Number of vCPUs the machine will have, 1 to [`hal::cpu::MAX_CPUS`].
    pub ncpus: u32,
    /// What the host's file system says.
    pub facts: HostFacts,
}

/// The ancestor of all user processes.
#[derive(Debug)]
pub struct Zygote {
    pub(crate) pid: i32,
    pub(crate) file: &'static StubFile,
    pub(crate) mapper: Mapper,
    pub(crate) facts: HostFacts,
}

/// Ends every user process of this process's machine at once. For every way
/// out; also in signal handlers and after a crash.
pub fn kill_all() {
    ENDING.store(true, Ordering::SeqCst);
    let group = GROUP.load(Ordering::Acquire);
    if group > 0 {
        let _ = task::kill(-group, libc::SIGKILL);
        // A zygote that has not come to make its group yet.
        let _ = task::kill(group, libc::SIGKILL);
    }
}

/// After [`kill_all`]: waits until the host has taken the user processes apart, so that
/// whoever waits for this process finds nothing left of the machine; at most a second.
pub fn wait_for_all() {
    const LIMIT_NS: u64 = 1_000_000_000;
    const NAP_NS: u64 = 100_000;
    let group = GROUP.load(Ordering::Acquire);
    let until = time::monotonic_ns() + LIMIT_NS;
    while group > 0 && time::monotonic_ns() < until {
        match task::wait_group(group, libc::WNOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => time::sleep_ns(NAP_NS),
            // None is left, and the number of the group may become another's.
            Err(_) => return GROUP.store(0, Ordering::Release),
        }
    }
}

/// Stops every user process of this process's machine, which is about to stop
/// itself. The zygote goes on with them.
pub fn stop_all() {
    signal_group(libc::SIGSTOP);
}

/// Lets them go on.
pub fn continue_all() {
    signal_group(libc::SIGCONT);
}

fn signal_group(signo: i32) {
    let group = GROUP.load(Ordering::Acquire);
    if group > 0 && !is_ending() {
        let _ = task::kill(-group, signo);
    }
}

impl Zygote {
    /// Process group of the user processes.
    pub fn group(&self) -> i32 {
        self.pid
    }

    /// Forks the zygote. This process must have one thread, which must live as
    /// long as the machine: its end ends all user processes.
    pub fn spawn(config: &ZygoteConfig) -> Result<Zygote, Error> {
        assert!((1..=hal::cpu::MAX_CPUS as u32).contains(&config.ncpus));
        if !misc::has_seccomp_trap() {
            return Err(Error::NoSeccomp(Errno::ENOSYS));
        }
        // SAFETY: reads the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
            return Err(Error::NoFsgsbase);
        }
        // Inherited as "ignored" it would reap the user processes unseen.
        default_action(libc::SIGCHLD).map_err(|e| Error::Host("reset SIGCHLD", e))?;
        let file = crate::sysvec::leak(StubFile::create(config.ncpus)?);
        let ctrl = file.slot(0);
        let mut mapper = Mapper::new(ctrl, file.offset(0));
        let start = write_start_list(&mut mapper, config.facts.vdso);
        let plan = Plan {
            parent: task::getpid(),
            mem_fd: config.mem_fd,
            stub_fd: file.fd,
            ctrl_offset: file.offset(0),
            scratch_offset: file.area_offset(0, 0) + stub::ALT_STACK,
            ctrl,
            outer: filter::outer(),
            rseq: rseq_area(),
            start,
        };
        // SAFETY: one thread, as the caller promises; the child never returns.
        match unsafe { misc::fork() } {
            Ok(0) => plan.become_zygote(),
            Ok(pid) => {
                GROUP.store(pid, Ordering::Release);
                let zygote = Zygote {
                    pid,
                    file,
                    mapper,
                    facts: config.facts,
                };
                zygote.wait_for_start()
            }
            Err(e) => Err(Error::Host("fork the first user process", e)),
        }
    }

    fn wait_for_start(mut self) -> Result<Zygote, Error> {
        let ctrl = self.file.slot(0);
        let ack = ctrl.u32(stub::CTRL_ACK);
        let deadline = time::monotonic_ns() + START_TIMEOUT_NS;
        loop {
            let seen = ack.load(Ordering::Acquire);
            if self.mapper.poll() == Some(Answer::Done) {
                return Ok(self);
            }
            if task::wait_child(self.pid, libc::WNOHANG).is_ok_and(|e| e.is_some()) {
                GROUP.store(0, Ordering::Release);
                let step = ctrl.u32(FAILED_STEP).load(Ordering::Relaxed);
                let errno = Errno(ctrl.u32(FAILED_ERRNO).load(Ordering::Relaxed) as u16);
                return Err(match STEPS.get(step as usize) {
                    Some(_) if step == STEP_SECCOMP => Error::NoSeccomp(errno),
                    Some(what) if step != 0 => Error::Host(what, errno),
                    _ => Error::ZygoteDied,
                });
            }
            if time::monotonic_ns() > deadline {
                kill_all();
                return Err(Error::ZygoteSilent);
            }
            let _ = time::futex_wait_shared(ack, seen, Some(5_000_000));
        }
    }
}

/// The zygote's first list: removes everything but the stub region. Returns its address.
fn write_start_list(mapper: &mut Mapper, (vdso, vdso_end): (u64, u64)) -> u64 {
    let unmap = |from: u64, to: u64| call(libc::SYS_munmap, [from, to - from, 0, 0, 0, 0]);
    let end = 0x7fff_ffff_f000;
    let mut list = mapper.begin();
    let start = list.address_of(list.next());
    list.push(unmap(0, stub::STUB_BASE));
    // Hosts may seal the vDSO's pages. They hold nothing secret, and their
    // system calls trap like all others, so then only the rest goes.
    list.push(unmap(stub::STUB_END, end));
    if vdso > stub::STUB_END && vdso_end < end {
        list.push(unmap(stub::STUB_END, vdso));
        list.push(unmap(vdso_end, end));
    }
    list.finish(0, None);
    mapper.expect_answer();
    start
}

/// The area that libc has registered with rseq(2) for this thread, and its
/// possible sizes. The host writes there at any time, so it must be taken back
/// before its memory goes.
fn rseq_area() -> Option<(usize, [usize; 2])> {
    // SAFETY: looks a symbol up by its name.
    let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) };
    if offset.is_null() {
        return None;
    }
    let tp: usize;
    // SAFETY: the x86-64 ABI keeps the thread pointer at fs:0; libc's symbol is a ptrdiff_t.
    let offset = unsafe {
        asm!("mov {}, fs:0", out(reg) tp, options(nostack, readonly, preserves_flags));
        offset.cast::<isize>().read()
    };
    const AT_RSEQ_FEATURE_SIZE: libc::c_ulong = 27;
    // SAFETY: reads the auxiliary vector.
    let size = unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) } as usize;
    Some((
        tp.wrapping_add_signed(offset),
        [32, size.next_multiple_of(32)],
    ))
}

fn default_action(signo: i32) -> Result<(), Errno> {
    let action = Action {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: no handler.
    unsafe { signal::set_action(signo, &action) }.map(|_| ())
}

/// What the child of the fork needs to know. It allocates nothing.
struct Plan {
    parent: i32,
    mem_fd: i32,
    stub_fd: i32,
    ctrl_offset: u64,
    scratch_offset: u64,
    ctrl: Slot,
    outer: Vec<filter::Insn>,
    rseq: Option<(usize, [usize; 2])>,
    start: u64,
}

impl Plan {
    fn become_zygote(&self) -> ! {
        let mut step = 1;
        let e = match self.prepare(&mut step) {
            Ok(never) => match never {},
            Err(e) => e,
        };
        let note = |at, v| self.ctrl.u32(at).store(v, Ordering::Relaxed);
        note(FAILED_ERRNO, e.0.into());
        note(FAILED_STEP, step);
        task::exit_group(1)
    }

    fn prepare(&self, step: &mut u32) -> Result<core::convert::Infallible, Errno> {
        signal::set_mask(u64::MAX);
        let kill = libc::SIGKILL as usize;
        // SAFETY: prctl operations with plain numbers, about this process only.
        unsafe {
            task::prctl(libc::PR_SET_PDEATHSIG, kill)?;
            task::prctl(libc::PR_SET_DUMPABLE, 0)?;
            let _ = task::prctl(libc::PR_SET_NAME, c"lodger-user".as_ptr() as usize);
        }
        rights::keep_capabilities(0)?;
        rights::no_new_privileges()?;
        if task::getppid() != self.parent {
            task::exit_group(1);
        }
        // A group, for `kill_all`, but no session: hosts share CPU time out
        // between sessions, and the two sides of a trap are one program.
        misc::new_group()?;

        *step = 2;
        let (r, rx) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_EXEC);
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        self.map(stub::CODE, 0x1000, rx, 0)?;
        self.map(stub::CONSTANTS, 0x1000, r, 0x1000)?;
        self.map(stub::CTRL, stub::CTRL_LEN, r, self.ctrl_offset)?;
        // Where clone(2) notes the new process's number; clones remove it.
        self.map(stub::AREAS, 0x1000, rw, self.scratch_offset)?;

        *step = 3;
        let high = |fd| file::fcntl(fd, libc::F_DUPFD_CLOEXEC, 16).map(|fd| fd as i32);
        let (mem_fd, stub_fd) = (high(self.mem_fd)?, high(self.stub_fd)?);
        fd::dup3(mem_fd, MEM_FD as i32, 0)?;
        fd::dup3(stub_fd, STUB_FD as i32, 0)?;
        fd::close_range(2, u32::MAX)?;

        *step = 4;
        for signo in 1..=64 {
            if signo != libc::SIGKILL && signo != libc::SIGSTOP {
                default_action(signo)?;
            }
        }
        for signo in HANDLED {
            let action = Action {
                handler: stub::handler() as usize,
                flags: (libc::SA_SIGINFO | libc::SA_ONSTACK) as u64 | SA_RESTORER,
                restorer: stub::trap() as usize,
                mask: u64::MAX,
            };
            // SAFETY: the stub's handler is made for this.
            unsafe { signal::set_action(signo, &action)? };
        }
        if let Some((area, sizes)) = self.rseq {
            const UNREGISTER: usize = 1;
            for size in sizes {
                let args = [area, size, UNREGISTER, 0x5305_3053, 0, 0];
                // SAFETY: takes back what libc has registered; nothing here relies on it.
                let _ = unsafe { call6(libc::SYS_rseq, args) };
            }
        }

        *step = STEP_SECCOMP;
        const SET_MODE_FILTER: usize = 1;
        let program = libc::sock_fprog {
            len: self.outer.len() as u16,
            filter: self.outer.as_ptr().cast_mut().cast(),
        };
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as usize;
        // SAFETY: reads the program; from here on only the stub may call the host.
        unsafe {
            call3(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                flags,
                &raw const program as usize,
            )?;
            asm!(
                "mov r15, {list}",
                "jmp {to}",
                list = in(reg) self.start,
                to = in(reg) stub::interpret(),
                options(noreturn),
            )
        }
    }

    fn map(&self, at: u64, len: u64, prot: i32, offset: u64) -> Result<(), Errno> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: nothing is replaced.
        let got =
            unsafe { mem::mmap(at as usize, len as usize, prot, flags, self.stub_fd, offset)? };
        if got as u64 == at {
            Ok(())
        } else {
            Err(Errno::EEXIST)
        }
    }
}

impl Zygote {
    /// Asks for a clone in slot `n`, whose own end is `child`. Does not wait:
    /// the clone answers through `child`, a failure through the zygote's mapper.
    /// The last request has been answered.
    pub(crate) fn request(&mut self, n: u32, child: &mut Mapper, parent: i32) {
        const CLONE: u64 = 8;
        const CHILD: u64 = 16;
        const DIE: u64 = 32;
        let clone = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
        let mut list = self.mapper.begin();
        let turn = self.mapper.turn();
        let scratch = stub::AREAS;
        assert_eq!(list.next(), CLONE);
        let mut op = call(libc::SYS_clone, [clone as u64, 0, scratch, 0, 0, 0]);
        op.child = list.address_of(CHILD);
        op.on_error = list.failure();
        list.push(op);
        let die = list.address_of(DIE);
        // The clone first exchanges its control pages for those of its slot,
        // in which it then goes on at the next call.
        let prot = libc::PROT_READ as u64;
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
        let offset = self.file.offset(n);
        let mut swap = call(
            libc::SYS_mmap,
            [stub::CTRL, stub::CTRL_LEN, prot, flags, STUB_FD, offset],
        );
        swap.on_error = die;
        let back = list.next();
        list.seek(CHILD);
        list.push(swap);
        list.seek(DIE);
        list.push(call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]));
        list.seek(back);

        let mut theirs = child.begin_in(turn);
        let checked = |nr, args, expect| {
            let mut op = call(nr, args);
            op.on_error = die;
            op.expect = expect;
            op
        };
        theirs.seek(CHILD + 1);
        let areas = u64::from(self.file.ncpus) * stub::AREA_SIZE;
        theirs.push(checked(
            libc::SYS_munmap,
            [stub::AREAS, areas, 0, 0, 0, 0],
            0,
        ));
        let pdeathsig = [
            libc::PR_SET_PDEATHSIG as u64,
            libc::SIGKILL as u64,
            0,
            0,
            0,
            0,
        ];
        theirs.push(checked(libc::SYS_prctl, pdeathsig, 0));
        // If the kernel process died before that, nobody else will tell.
        theirs.push(checked(libc::SYS_getppid, [0; 6], parent as u64));
        theirs.finish(0, None);
        theirs.seek(DIE);
        theirs.push(call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]));
        child.expect_answer();
        self.mapper.submit(list, None, None);
    }

    /// Number of the process that the last successful request made.
    pub(crate) fn last_child(&self) -> i32 {
        let scratch = self.file.area(0, 0);
        scratch.u32(stub::ALT_STACK).load(Ordering::Acquire) as i32
    }

    /// The answer to the last request, if it is there.
    pub(crate) fn poll(&mut self) -> Option<Answer> {
        self.mapper.poll()
    }

    /// Waits for the answer to the last request.
    pub(crate) fn wait(&mut self, dead: &AtomicBool) -> Answer {
        self.mapper.wait(dead)
    }
}
