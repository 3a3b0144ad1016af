//! The two seccomp filters of a user process, as classic BPF.
//!
//! The **outer** filter is the mapper's and, being inherited, everyone's: it allows
//! the calls of the lists at the interpreter's instruction. The **strict** one is
//! added by each stub thread before guest code runs on it; the host applies the
//! harsher of both. See `stub` for what they are good for.

use super::stub;

/// One instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LOAD: u16 = 0x20; // ld [k]
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const SUB: u16 = 0x14;
const AND: u16 = 0x54;
const RET: u16 = 0x06;

// Offsets in struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const IP: u32 = 8;
const IP_HI: u32 = 12;
const ARG0: u32 = 16;
const ARG0_HI: u32 = 20;
const ARG1: u32 = 24;
const ARG3: u32 = 40;
const ARG3_HI: u32 = 44;

/// `AUDIT_ARCH_X86_64`.
pub(crate) const ARCH_X86_64: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// A program under construction. Jumps go to the next instruction or to a
/// verdict at the end.
struct Program {
    insns: Vec<Insn>,
    /// Jumps to patch: (instruction, on true or false, verdict).
    jumps: Vec<(usize, bool, u32)>,
}

impl Program {
    fn new() -> Program {
        Program {
            insns: Vec::new(),
            jumps: Vec::new(),
        }
    }
    fn push(&mut self, code: u16, k: u32) {
        self.insns.push(Insn {
            code,
            jt: 0,
            jf: 0,
            k,
        });
    }
    fn load(&mut self, field: u32) {
        self.push(LOAD, field);
    }
    /// If A (op) k is `when`: the verdict; else on.
    fn test(&mut self, op: u16, k: u32, when: bool, verdict: u32) {
        self.jumps.push((self.insns.len(), when, verdict));
        self.push(op, k);
    }
    /// If A ≠ k: skip `n` instructions.
    fn skip_unless(&mut self, k: u32, n: usize) {
        self.push(JEQ, k);
        if let Some(i) = self.insns.last_mut() {
            i.jf = n as u8;
        }
    }
    fn verdict(&mut self, verdict: u32) {
        self.push(RET, verdict);
    }
    fn finish(mut self) -> Vec<Insn> {
        for verdict in [ALLOW, TRAP, KILL_PROCESS] {
            let end = self.insns.len();
            for &(at, when, _) in self.jumps.iter().filter(|j| j.2 == verdict) {
                let distance = u8::try_from(end - at - 1).expect("a short program");
                if when {
                    self.insns[at].jt = distance;
                } else {
                    self.insns[at].jf = distance;
                }
            }
            self.verdict(verdict);
        }
        self.insns
    }
}

/// Everything outside the stub's code page traps; foreign instruction sets in it kill.
fn begin() -> Program {
    let mut p = Program::new();
    p.load(IP_HI);
    p.test(JEQ, (stub::CODE >> 32) as u32, false, TRAP);
    p.load(IP);
    p.push(SUB, stub::CODE as u32);
    p.test(JGE, 0x1000, true, TRAP);
    p.load(ARCH);
    p.test(JEQ, ARCH_X86_64, false, KILL_PROCESS);
    p
}

/// A block for the instruction that returns to `ip`.
fn at(p: &mut Program, ip: u64, block: impl FnOnce(&mut Program)) {
    p.load(IP);
    p.skip_unless(ip as u32, 0);
    let from = p.insns.len();
    p.load(NR);
    block(p);
    p.verdict(KILL_PROCESS);
    let n = p.insns.len() - from;
    p.insns[from - 1].jf = u8::try_from(n).expect("a short block");
}

/// A futex operation on a word at offset `offset` of one of `ncpus` areas.
fn futex(p: &mut Program, ncpus: u32, op: i32, offset: u64) {
    p.test(JEQ, libc::SYS_futex as u32, false, KILL_PROCESS);
    p.load(ARG1);
    p.test(JEQ, op as u32, false, KILL_PROCESS);
    p.load(ARG0_HI);
    p.test(JEQ, (stub::AREAS >> 32) as u32, false, KILL_PROCESS);
    p.load(ARG0);
    p.push(SUB, stub::AREAS as u32);
    p.test(JGE, ncpus * stub::AREA_SIZE as u32, true, KILL_PROCESS);
    p.push(AND, stub::AREA_SIZE as u32 - 1);
    p.test(JEQ, offset as u32, true, ALLOW);
}

/// The filter of the mapper.
pub(crate) fn outer() -> Vec<Insn> {
    let mut p = begin();
    for ip in [stub::mapper_ret(), stub::wake_ret(), stub::wait_ret()] {
        at(&mut p, ip, |p| {
            p.test(JEQ, libc::SYS_futex as u32, true, ALLOW);
        });
    }
    at(&mut p, stub::return_ret(), |p| {
        p.test(JEQ, libc::SYS_rt_sigreturn as u32, true, ALLOW);
    });
    at(&mut p, stub::interpret_ret(), |p| {
        for nr in [
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_pwrite64,
            libc::SYS_futex,
            libc::SYS_clone,
            libc::SYS_rt_sigprocmask,
            libc::SYS_sigaltstack,
            libc::SYS_close_range,
            libc::SYS_seccomp,
            libc::SYS_prctl,
            libc::SYS_getppid,
            libc::SYS_exit_group,
        ] {
            p.test(JEQ, nr as u32, true, ALLOW);
        }
    });
    p.verdict(KILL_PROCESS);
    p.finish()
}

/// The filter of the stub threads of a machine with `ncpus` vCPUs.
pub(crate) fn strict(ncpus: u32) -> Vec<Insn> {
    let mut p = begin();
    at(&mut p, stub::wait_ret(), |p| {
        // Only the kernel ends the sleep.
        for half in [ARG3, ARG3_HI] {
            p.load(half);
            p.test(JEQ, 0, false, KILL_PROCESS);
        }
        p.load(NR);
        futex(p, ncpus, libc::FUTEX_WAIT, stub::PARK);
    });
    at(&mut p, stub::wake_ret(), |p| {
        futex(p, ncpus, libc::FUTEX_WAKE, stub::REPORT);
    });
    at(&mut p, stub::return_ret(), |p| {
        p.test(JEQ, libc::SYS_rt_sigreturn as u32, true, ALLOW);
    });
    p.verdict(KILL_PROCESS);
    p.finish()
}

/// The filter of the engine `kml`: calls from guest code trap, the kernel's pass.
pub(crate) fn guest_traps() -> Vec<Insn> {
    let mut p = Program::new();
    p.load(IP_HI);
    p.push(SUB, (hal::USER_END >> 32) as u32);
    // Up to the end of what programs can have: the vsyscall page is not ours.
    p.test(JGE, 0x3000, true, TRAP);
    p.verdict(ALLOW);
    p.finish()
}

/// The bytes of a filter.
pub(crate) fn as_bytes(insns: &[Insn]) -> &[u8] {
    // SAFETY: plain integers without padding (2 + 1 + 1 + 4 bytes).
    unsafe { core::slice::from_raw_parts(insns.as_ptr().cast(), size_of_val(insns)) }
}
