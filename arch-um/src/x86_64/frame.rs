//! The host's signal frames on the alternate stacks: where traps leave the
//! guest's registers and take them from.
//!
//! Where a frame lies is learned once, before any guest code runs: with
//! SS_AUTODISARM a handler always starts at the top of the alternate stack,
//! so it is the same place at every trap. What the host checks on the way
//! back (segments, flags, vector state) is cleaned here first, so that no
//! value from the kernel can make the return fail.

use super::fpu::{self, MIN_SIZE, XState};
use super::kml::Sig;
use super::regs::*;
use super::stub;
use crate::engine::shared::Slot;
use crate::zygote::GUEST_MASK;
use crate::{Error, zygote};
use core::sync::atomic::Ordering::Relaxed;
use hal::{Prot, Trap, UserContext};

// Offsets in the frame: return address, struct ucontext, siginfo.
const UC_FLAGS: u64 = 8;
const UC_LINK: u64 = 16;
const UC_STACK: u64 = 24;
const UC_REGS: u64 = 48;
const UC_SEGMENTS: u64 = UC_REGS + 18 * 8;
const UC_ERR: u64 = UC_SEGMENTS + 8;
const UC_TRAPNO: u64 = UC_ERR + 8;
const UC_CR2: u64 = UC_TRAPNO + 16;
const UC_FPSTATE: u64 = UC_CR2 + 8;
const UC_MASK: u64 = 304;
const INFO: u64 = 312;
const FRAME_SIZE: u64 = 440;

const SS_AUTODISARM: u32 = 1 << 31;
/// FP state follows; the stack segment is saved and restored.
const UC_FLAGS_ALL: u64 = 7;

const VECTOR_GP: u64 = 13;
const VECTOR_PF: u64 = 14;
const SI_KERNEL: i32 = 0x80;
/// A protection key forbids the access: sigaction(2).
const SEGV_PKUERR: i32 = 4;
const SYS_SECCOMP: i32 = 1;

/// Where things lie in an area on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFrame {
    frame: u64,
    fp: u64,
    pub(crate) xstate: XState,
}

/// Sets up the read-only page of an area for a new thread: stack, mask.
pub(crate) fn prepare_area(area: Slot, base: u64) {
    area.u64(stub::GO_STACK)
        .store(base + stub::ALT_STACK, Relaxed);
    area.u64(stub::GO_STACK + 8)
        .store(u64::from(SS_AUTODISARM), Relaxed);
    area.u64(stub::GO_STACK + 16)
        .store(stub::REPORT - stub::ALT_STACK, Relaxed);
    area.u64(stub::GO_MASK).store(GUEST_MASK, Relaxed);
}

impl HostFrame {
    /// Learns from the first report in `area` (at `base` in the user process).
    pub(crate) fn learn(area: Slot, base: u64) -> Result<HostFrame, Error> {
        let bad = |what| Err(Error::Frame(what));
        let word = |at: u64| area.u64(at).load(Relaxed);
        let frame = word(stub::REPORT_SP).wrapping_sub(base);
        if frame < stub::ALT_STACK || frame + FRAME_SIZE > stub::REPORT || frame % 8 != 0 {
            return bad("not on the alternate stack");
        }
        if word(frame + UC_REGS + 16 * 8) != stub::trap() || word(frame + UC_MASK) != GUEST_MASK {
            return bad("registers or mask at another place");
        }
        if word(frame + UC_TRAPNO) != 6 || word(frame + INFO) as i32 != libc::SIGILL {
            return bad("trap or signal number at another place");
        }
        let fp = word(frame + UC_FPSTATE).wrapping_sub(base);
        if fp < frame + FRAME_SIZE || fp + MIN_SIZE as u64 > stub::REPORT || fp % 64 != 0 {
            return bad("vector state at another place");
        }
        let sw = fp + fpu::SW_BYTES as u64;
        let (magic, size) = (word(sw) as u32, word(sw + 16) as u32 as u64);
        if magic != fpu::MAGIC1 || size < MIN_SIZE as u64 || fp + size + 4 > stub::REPORT {
            return bad("no XSAVE state");
        }
        let xstate = XState::new(size as usize, word(sw + 8));
        Ok(HostFrame { frame, fp, xstate })
    }

    /// Makes the area that of a thread without a past: no old registers, initial vector state.
    pub(crate) fn reset(&self, area: Slot) {
        area.zero(self.frame, (stub::REPORT - self.frame) as usize);
        let mut b = [0; MIN_SIZE];
        self.xstate.make_initial(&mut b);
        area.write(self.fp, &b);
        let magic2 = self.fp + self.xstate.size as u64;
        area.write(magic2, &fpu::MAGIC2.to_ne_bytes());
    }

    /// Fills the frame so that the thread makes one round through it to its trap.
    pub(crate) fn aim_at_trap(&self, area: Slot, base: u64) {
        let mut cx = UserContext::new();
        cx.gp[RIP] = stub::trap();
        self.load(area, base, &cx, true);
    }

    /// Fills the frame from `cx`, vector state excepted, and the words that the
    /// stub loads by itself. `bases`: also FS and GS base.
    pub(crate) fn load(&self, area: Slot, base: u64, cx: &UserContext, bases: bool) {
        let f = self.frame;
        let set = |at: u64, v: u64| area.u64(at).store(v, Relaxed);
        set(f + UC_FLAGS, UC_FLAGS_ALL);
        set(f + UC_LINK, 0);
        set(f + UC_STACK, base + stub::ALT_STACK);
        set(f + UC_STACK + 8, u64::from(SS_AUTODISARM));
        set(f + UC_STACK + 16, stub::REPORT - stub::ALT_STACK);
        for (i, r) in SIGCONTEXT.into_iter().enumerate() {
            set(f + UC_REGS + 8 * i as u64, cx.gp[r]);
        }
        set(f + UC_REGS + 17 * 8, clean_flags(cx.gp[EFLAGS]));
        set(f + UC_SEGMENTS, USER_CS | USER_SS << 48);
        set(f + UC_FPSTATE, base + self.fp);
        set(f + UC_MASK, GUEST_MASK);
        set(stub::GO_FRAME, base + f + 8);
        area.u32(stub::GO_FLAGS).store(bases.into(), Relaxed);
        if bases {
            set(stub::GO_FS, clean_base(cx.gp[FS_BASE]));
            set(stub::GO_GS, clean_base(cx.gp[GS_BASE]));
        }
    }

    /// Fills the vector state; empty `fp` = initial.
    pub(crate) fn load_fp(&self, area: Slot, fp: &[u8]) {
        let mut head = [0; MIN_SIZE];
        match fp.get(..MIN_SIZE) {
            Some(part) => {
                head.copy_from_slice(part);
                self.xstate.clean(&mut head);
                let rest = &fp[MIN_SIZE..fp.len().min(self.xstate.size)];
                area.write(self.fp + MIN_SIZE as u64, rest);
            }
            None => self.xstate.make_initial(&mut head),
        }
        area.write(self.fp, &head);
        let magic2 = self.fp + self.xstate.size as u64;
        area.write(magic2, &fpu::MAGIC2.to_ne_bytes());
    }

    /// Copies the vector state out.
    pub(crate) fn save_fp(&self, area: Slot, fp: &mut Vec<u8>) {
        fp.resize(self.xstate.size, 0);
        area.read(self.fp, fp);
        self.xstate.clean(fp);
        self.xstate.normalize(fp, u64::MAX);
    }

    /// Takes the registers over into `cx` and tells what happened. Every word
    /// is loaded once and nothing is relied on.
    pub(crate) fn save(&self, area: Slot, cx: &mut UserContext) -> Trap {
        let f = self.frame;
        let word = |at: u64| area.u64(at).load(Relaxed);
        for (i, r) in SIGCONTEXT.into_iter().enumerate() {
            cx.gp[r] = word(f + UC_REGS + 8 * i as u64);
        }
        cx.gp[CS] = USER_CS;
        cx.gp[SS] = USER_SS;
        cx.gp[FS_BASE] = word(stub::REPORT_FS);
        cx.gp[GS_BASE] = word(stub::REPORT_GS);
        leave_syscall(cx);
        let sig = Sig {
            signo: area.u32(stub::REPORT_SIG).load(Relaxed) as i32,
            code: word(f + INFO + 8) as i32,
            vector: word(f + UC_TRAPNO),
            error: word(f + UC_ERR),
            cr2: word(f + UC_CR2),
            addr: word(f + INFO + 16),
            what: word(f + INFO + 24),
        };
        decode(&sig, cx)
    }
}

/// Tells what a signal means, and notes its details in `cx`.
pub(crate) fn decode(sig: &Sig, cx: &mut UserContext) -> Trap {
    let Sig {
        signo, code, what, ..
    } = *sig;
    if signo == libc::SIGSYS {
        if code != SYS_SECCOMP {
            return Trap::Interrupt;
        }
        let native = (what >> 32) as u32 == super::filter::ARCH_X86_64;
        // A call by int 0x80 has other numbers: -1 exists in neither table.
        cx.gp[ORIG_RAX] = if native { cx.gp[RAX] } else { u64::MAX };
        if !native {
            cx.gp[RAX] = u64::MAX;
        }
        return Trap::Syscall;
    }
    // Two calls that hosts let past every filter, and refuse like this.
    if signo == libc::SIGILL && code == SI_KERNEL {
        cx.gp[ORIG_RAX] = u64::MAX;
        return Trap::Syscall;
    }
    // Sent by another process, not raised by the CPU; the kick among them.
    if code <= 0 || signo == zygote::KICK || !zygote::HANDLED.contains(&signo) {
        return Trap::Interrupt;
    }
    let (vector, error, cr2) = (sig.vector, sig.error, sig.cr2);
    cx.gp[TRAPNO] = vector;
    cx.gp[ERR] = error;
    if vector == VECTOR_PF {
        cx.gp[CR2] = cr2;
        // Mappings have no protection key but number 0: the guest has denied itself that.
        if signo == libc::SIGSEGV && code != SEGV_PKUERR {
            let access = match error {
                e if e & 16 != 0 => Prot::EXEC,
                e if e & 2 != 0 => Prot::WRITE,
                _ => Prot::READ,
            };
            return Trap::PageFault { addr: cr2, access };
        }
    }
    let (code, addr) = match signo {
        libc::SIGSEGV if vector == VECTOR_GP => (SI_KERNEL, 0),
        _ => (code, sig.addr),
    };
    Trap::Exception {
        signo,
        code,
        addr,
        vector: vector as u32,
        error,
    }
}
