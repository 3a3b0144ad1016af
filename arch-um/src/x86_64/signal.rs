//! Signal frames on the guest's stack, as rt_sigaction(2) handlers and
//! rt_sigreturn(2) know them: return address, ucontext, siginfo, and the vector
//! state further up.

use super::fpu::{self, LEGACY, MAGIC1, MAGIC2, MIN_SIZE, get_u32, get_u64, put};
use super::regs::*;
use abi::{Errno, SigSet, SigStack};
use hal::UserContext;
use hal::arch::{SigReturn, SignalDelivery, UserMem};

const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SS_DISABLE: i32 = 2;
const SS_AUTODISARM: i32 = i32::MIN;
/// Bytes below the stack pointer that belong to the interrupted code.
const RED_ZONE: u64 = 128;
/// Vector state follows, the stack segment is saved and restored strictly.
const UC_FLAGS: u64 = 7;

// Offsets in the frame.
const UC: usize = 8;
const UC_STACK: usize = UC + 16;
const UC_REGS: usize = UC + 40;
const UC_SEGMENTS: usize = UC_REGS + 18 * 8;
const UC_ERR: usize = UC_SEGMENTS + 8;
const UC_TRAPNO: usize = UC_ERR + 8;
const UC_OLDMASK: usize = UC_TRAPNO + 8;
const UC_CR2: usize = UC_OLDMASK + 8;
const UC_FPSTATE: usize = UC_CR2 + 8;
const UC_MASK: usize = UC + 296;
const INFO: usize = UC_MASK + 8;
const FRAME: usize = INFO + 128;

/// Size of the largest frame, with all alignment.
pub(crate) fn max_frame() -> usize {
    (FRAME + 8 + 64 + 16 + fpu::host().size + 4).next_multiple_of(16)
}

fn is_on(stack: &SigStack, sp: u64) -> bool {
    sp > stack.sp && sp - stack.sp <= stack.size
}

/// Builds the frame and points `cx` to the handler.
pub(crate) fn push(
    cx: &mut UserContext,
    mem: &mut dyn UserMem,
    s: &SignalDelivery,
) -> Result<(), Errno> {
    if s.action.flags & SA_RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let xstate = fpu::host();
    let alt = &s.altstack;
    let mut sp = cx.gp[RSP].wrapping_sub(RED_ZONE);
    let enabled = alt.flags & SS_DISABLE == 0 && alt.size != 0;
    // With SS_AUTODISARM a handler on the alternate stack has none.
    let inside = |sp| enabled && alt.flags & SS_AUTODISARM == 0 && is_on(alt, sp);
    let nested = inside(cx.gp[RSP]);
    let entering = enabled && !inside(sp) && s.action.flags & SA_ONSTACK != 0;
    if entering {
        sp = alt.sp.wrapping_add(alt.size);
    }
    let fp_at = sp.wrapping_sub(xstate.size as u64 + 4) & !63;
    let at = (fp_at.wrapping_sub(FRAME as u64) & !15).wrapping_sub(8);
    if (nested || entering) && !is_on(alt, at) || at > sp {
        return Err(Errno::EFAULT);
    }

    match cx.fp.len() == xstate.size {
        true => xstate.clean(&mut cx.fp),
        false => cx.fp = xstate.initial(),
    }
    mem.write(fp_at, &cx.fp)?;
    mem.write(fp_at + xstate.size as u64, &MAGIC2.to_ne_bytes())?;

    let mut b = [0; FRAME];
    let mut set = |offset: usize, v: u64| put(&mut b, offset, &v.to_ne_bytes());
    set(0, s.action.restorer);
    set(UC, UC_FLAGS);
    set(UC_STACK, alt.sp);
    set(UC_STACK + 8, u64::from(alt.flags as u32));
    set(UC_STACK + 16, alt.size);
    for (i, r) in SIGCONTEXT.into_iter().enumerate() {
        set(UC_REGS + 8 * i, cx.gp[r]);
    }
    set(UC_SEGMENTS, USER_CS | USER_SS << 48);
    set(UC_ERR, cx.gp[ERR]);
    set(UC_TRAPNO, cx.gp[TRAPNO]);
    set(UC_OLDMASK, s.mask.0);
    set(UC_CR2, cx.gp[CR2]);
    set(UC_FPSTATE, fp_at);
    set(UC_MASK, s.mask.0);
    let info = s.info;
    set(
        INFO,
        u64::from(info.signo as u32) | u64::from(info.errno as u32) << 32,
    );
    set(
        INFO + 8,
        u64::from(info.code as u32) | u64::from(info.pad as u32) << 32,
    );
    for (i, f) in info.fields.into_iter().enumerate() {
        set(INFO + 16 + 8 * i, f);
    }
    mem.write(at, &b)?;

    cx.gp[RSP] = at;
    cx.gp[RIP] = s.action.handler;
    cx.gp[RDI] = u64::from(info.signo as u32);
    cx.gp[RSI] = at + INFO as u64;
    cx.gp[RDX] = at + UC as u64;
    cx.gp[RAX] = 0;
    cx.gp[EFLAGS] = clean_flags(cx.gp[EFLAGS]) & !(FLAG_DF | FLAG_TF | FLAG_RF);
    leave_syscall(cx);
    // Handlers start with fresh vector state.
    xstate.reset(&mut cx.fp);
    Ok(())
}

/// Takes the frame that the handler's return left at the stack pointer.
pub(crate) fn pop(cx: &mut UserContext, mem: &mut dyn UserMem) -> Result<SigReturn, Errno> {
    let at = cx.gp[RSP].wrapping_sub(8);
    let mut b = [0; INFO];
    mem.read(at, &mut b)?;
    let word = |offset: usize| get_u64(&b, offset);
    // While the state is in the registers, the context's bytes are of no more use.
    let mut fp = match cx.home {
        0 => Vec::new(),
        _ => core::mem::take(&mut cx.fp),
    };
    match word(UC_FPSTATE) {
        0 => fp.clear(),
        fp_at => read_fp(&mut fp, fp_at, mem)?,
    }
    for (i, r) in SIGCONTEXT.into_iter().enumerate() {
        cx.gp[r] = word(UC_REGS + 8 * i);
    }
    cx.gp[EFLAGS] = clean_flags(cx.gp[EFLAGS]);
    cx.gp[CS] = USER_CS;
    cx.gp[SS] = USER_SS;
    cx.fp = fp;
    cx.home = 0;
    leave_syscall(cx);
    Ok(SigReturn {
        mask: SigSet(word(UC_MASK)).without(9).without(19),
        altstack: SigStack {
            sp: word(UC_STACK),
            flags: word(UC_STACK + 8) as i32,
            pad: 0,
            size: word(UC_STACK + 16),
        },
    })
}

/// Reads the vector state of a frame. [`Errno::EFAULT`] if the CPU would refuse it.
fn read_fp(fp: &mut Vec<u8>, at: u64, mem: &mut dyn UserMem) -> Result<(), Errno> {
    let host = fpu::host();
    fp.resize(host.size, 0);
    mem.read(at, &mut fp[..LEGACY])?;
    let sw = fpu::SW_BYTES;
    let (total, features) = (get_u32(fp, sw + 4) as usize, get_u64(fp, sw + 8));
    let size = get_u32(fp, sw + 16) as usize;
    let mut whole =
        get_u32(fp, sw) == MAGIC1 && (MIN_SIZE..=host.size).contains(&size) && size <= total;
    if whole {
        let mut magic2 = [0; 4];
        mem.read(at.wrapping_add(size as u64), &mut magic2)?;
        whole = magic2 == MAGIC2.to_ne_bytes();
    }
    if !whole {
        if host.faults(fp, false) {
            return Err(Errno::EFAULT);
        }
        host.extend_legacy(fp);
        return Ok(());
    }
    mem.read(at.wrapping_add(LEGACY as u64), &mut fp[LEGACY..size])?;
    fp[size..].fill(0);
    if host.faults(fp, true) {
        return Err(Errno::EFAULT);
    }
    let used = get_u64(fp, LEGACY) & features;
    put(fp, LEGACY, &used.to_ne_bytes());
    host.clean(fp);
    host.normalize(fp, u64::MAX);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{SigAction, SigInfo};

    /// Memory at 0x1000.
    struct Mem(Vec<u8>);
    impl UserMem for Mem {
        fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
            let at = addr.checked_sub(0x1000).ok_or(Errno::EFAULT)? as usize;
            let end = at.checked_add(buf.len()).ok_or(Errno::EFAULT)?;
            buf.copy_from_slice(self.0.get(at..end).ok_or(Errno::EFAULT)?);
            Ok(())
        }
        fn write(&mut self, addr: u64, buf: &[u8]) -> Result<(), Errno> {
            let at = addr.checked_sub(0x1000).ok_or(Errno::EFAULT)? as usize;
            let end = at.checked_add(buf.len()).ok_or(Errno::EFAULT)?;
            let to = self.0.get_mut(at..end).ok_or(Errno::EFAULT)?;
            to.copy_from_slice(buf);
            Ok(())
        }
    }

    fn context() -> UserContext {
        let mut cx = UserContext::new();
        for (i, w) in cx.gp.iter_mut().enumerate() {
            *w = 0x1000 * i as u64 + 7;
        }
        cx.gp[RSP] = 0x8_0000;
        cx.gp[EFLAGS] = 0x246 | FLAG_DF;
        cx.gp[CS] = USER_CS;
        cx.gp[SS] = USER_SS;
        cx.fp = fpu::host().initial();
        put(&mut cx.fp, LEGACY, &3u64.to_ne_bytes());
        put(&mut cx.fp, 160, &[0x5a; 16]);
        cx
    }

    fn deliver(cx: &mut UserContext, mem: &mut Mem, alt: SigStack) -> Result<(), Errno> {
        let action = SigAction {
            handler: 0x4242,
            flags: SA_RESTORER | SA_ONSTACK,
            restorer: 0x5151,
            mask: SigSet::EMPTY,
        };
        let d = SignalDelivery {
            info: &SigInfo::fault(11, 1, 0xabc),
            action: &action,
            mask: SigSet::of(10),
            altstack: alt,
        };
        push(cx, mem, &d)
    }

    #[test]
    fn there_and_back() {
        let mut mem = Mem(vec![0; 0x8_0000]);
        let mut cx = context();
        let before = cx.gp;
        let fp = cx.fp.clone();
        deliver(&mut cx, &mut mem, SigStack::default()).unwrap();
        assert_eq!((cx.gp[RIP], cx.gp[RDI]), (0x4242, 11));
        assert_eq!((cx.gp[RSP] + 8) % 16, 0);
        assert!(cx.gp[RSP] + FRAME as u64 <= before[RSP] - RED_ZONE);
        assert_eq!(cx.gp[EFLAGS] & FLAG_DF, 0);
        assert_eq!(cx.fp, fpu::host().initial());
        let frame = cx.gp[RSP];
        assert_eq!((cx.gp[RSI], cx.gp[RDX]), (frame + 312, frame + 8));
        // The handler returns to the restorer.
        cx.gp[RSP] += 8;
        let back = pop(&mut cx, &mut mem).unwrap();
        assert_eq!(back.mask, SigSet::of(10));
        for r in SIGCONTEXT {
            assert_eq!(cx.gp[r], before[r], "word {r}");
        }
        assert_eq!(cx.fp, fp);
    }

    #[test]
    fn alternate_stack_and_its_limits() {
        let mut mem = Mem(vec![0; 0x8_0000]);
        let alt = |size| SigStack {
            sp: 0x2_0000,
            flags: 0,
            pad: 0,
            size,
        };
        let mut cx = context();
        deliver(&mut cx, &mut mem, alt(0x8000)).unwrap();
        let inner = cx.gp[RSP];
        assert!((0x2_0000..0x2_8000).contains(&inner));
        // A second one goes below the first.
        deliver(&mut cx, &mut mem, alt(0x8000)).unwrap();
        assert!(cx.gp[RSP] < inner);
        // Too small, also for the second.
        assert_eq!(
            deliver(&mut context(), &mut mem, alt(512)),
            Err(Errno::EFAULT)
        );
        let mut cx = context();
        let all = alt(max_frame() as u64 + 1000);
        deliver(&mut cx, &mut mem, all).unwrap();
        assert_eq!(deliver(&mut cx, &mut mem, all), Err(Errno::EFAULT));
        // No memory at all.
        let mut cx = context();
        cx.gp[RSP] = 64;
        assert_eq!(
            deliver(&mut cx, &mut mem, SigStack::default()),
            Err(Errno::EFAULT)
        );
    }

    #[test]
    fn forged_frames_are_tamed() {
        let mut mem = Mem(vec![0xff; 0x8_0000]);
        for fill in [0xffu8, 0x41, 0] {
            mem.0.fill(fill);
            let mut cx = context();
            cx.gp[RSP] = 0x4_0008;
            if let Ok(back) = pop(&mut cx, &mut mem) {
                assert_eq!(cx.gp[CS], USER_CS);
                assert_eq!(cx.gp[EFLAGS] & !FLAGS_USER, FLAGS_FIXED);
                assert!(!back.mask.has(9) && !back.mask.has(19));
            }
        }
        // A valid frame with an impossible state: MXCSR, components, layout.
        for (at, byte) in [(24 + 3, 0xffu8), (512 + 7, 0x40), (520, 1), (528, 1)] {
            let mut cx = context();
            deliver(&mut cx, &mut mem, SigStack::default()).unwrap();
            let frame = cx.gp[RSP];
            let fp_at = get_u64(&mem.0, frame as usize - 0x1000 + UC_FPSTATE) as usize - 0x1000;
            put(&mut mem.0, fp_at + at, &[byte]);
            cx.gp[RSP] += 8;
            assert_eq!(pop(&mut cx, &mut mem).err(), Some(Errno::EFAULT));
        }
    }
}
