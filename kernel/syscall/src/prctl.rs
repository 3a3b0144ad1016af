//! Attributes of a process or thread: prctl(2).

use crate::args::Hex;
use crate::cx::mm;
use crate::flags::PrctlOp;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use task::Ctx;
use vfs::Cred;
use vfs::cred::{CapSet, cap};

type P = PrctlOp;

/// SECBIT_KEEP_CAPS, its lock, and all bits of capabilities(7).
const KEEP_CAPS: u32 = 1 << 4;
const KEEP_CAPS_LOCKED: u32 = 1 << 5;
const ALL_BITS: u32 = 0xff;
const LOCKS: u32 = 0xaa;
const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;

/// Replaces the caller's credentials by a changed copy.
fn edit(cx: &Ctx, f: impl FnOnce(&mut Cred)) {
    let mut new = (*cx.cred()).clone();
    f(&mut new);
    cx.task().set_cred(Arc::new(new));
}

/// A bit of a capability number. [`Errno::EINVAL`].
fn cap_bit(n: u64) -> Result<u64> {
    if n <= u64::from(cap::LAST) {
        Ok(1 << n)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Reads or sets an attribute: `prctl(2)`.
pub fn sys_prctl(cx: &Ctx, op: PrctlOp, a2: Hex, a3: Hex, a4: Hex, a5: Hex) -> Result<u64> {
    let t = cx.task();
    let p = cx.process();
    let (a2, a3, a4, a5) = (a2.0, a3.0, a4.0, a5.0);
    let zero = |args: &[u64]| {
        if args.iter().all(|a| *a == 0) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    };
    let cred = cx.cred();
    match op.0 {
        P::PR_SET_PDEATHSIG => {
            if a2 > 64 {
                return Err(Errno::EINVAL);
            }
            t.pdeath_signal.store(a2 as i32, Ordering::Relaxed);
            Ok(0)
        }
        P::PR_GET_PDEATHSIG => {
            mm(cx).put(a2, &t.pdeath_signal.load(Ordering::Relaxed))?;
            Ok(0)
        }
        P::PR_GET_DUMPABLE => Ok(u64::from(p.dumpable.load(Ordering::Relaxed))),
        P::PR_SET_DUMPABLE => {
            if a2 > 1 {
                return Err(Errno::EINVAL);
            }
            p.dumpable.store(a2 as u32, Ordering::Relaxed);
            Ok(0)
        }
        P::PR_GET_KEEPCAPS => Ok(u64::from(cred.securebits & KEEP_CAPS != 0)),
        P::PR_SET_KEEPCAPS => {
            if a2 > 1 {
                return Err(Errno::EINVAL);
            }
            if cred.securebits & KEEP_CAPS_LOCKED != 0 {
                return Err(Errno::EPERM);
            }
            edit(cx, |c| {
                c.securebits = c.securebits & !KEEP_CAPS | if a2 != 0 { KEEP_CAPS } else { 0 };
            });
            Ok(0)
        }
        // PR_TIMING_STATISTICAL is the only one.
        P::PR_GET_TIMING => Ok(0),
        P::PR_SET_TIMING => zero(&[a2]).map(|()| 0),
        P::PR_SET_NAME => {
            let mut name = [0u8; 16];
            let n = mm(cx).read_partial(a2, &mut name, false);
            let end = name[..n].iter().position(|b| *b == 0);
            if end.is_none() && n < 15 {
                return Err(Errno::EFAULT);
            }
            t.set_comm(&name[..end.unwrap_or(15).min(15)]);
            Ok(0)
        }
        P::PR_GET_NAME => {
            let mut name = [0u8; 16];
            for (d, s) in name.iter_mut().zip(t.comm().iter().take(15)) {
                *d = *s;
            }
            mm(cx).write(a2, &name)?;
            Ok(0)
        }
        // SECCOMP_MODE_DISABLED; there is no other.
        P::PR_GET_SECCOMP => Ok(0),
        P::PR_CAPBSET_READ => Ok(u64::from(cred.bounding.0 & cap_bit(a2)? != 0)),
        P::PR_CAPBSET_DROP => {
            cx.require(cap::SETPCAP)?;
            let bit = cap_bit(a2)?;
            edit(cx, |c| c.bounding.0 &= !bit);
            Ok(0)
        }
        P::PR_GET_SECUREBITS => Ok(u64::from(cred.securebits)),
        P::PR_SET_SECUREBITS => {
            let old = cred.securebits;
            let new = a2 as u32;
            let locked = (old & LOCKS) >> 1;
            if a2 & !u64::from(ALL_BITS) != 0
                || (old ^ new) & locked != 0
                || old & LOCKS & !new != 0
                || !cred.capable(cap::SETPCAP)
            {
                return Err(Errno::EPERM);
            }
            edit(cx, |c| c.securebits = new);
            Ok(0)
        }
        P::PR_SET_TIMERSLACK => {
            const DEFAULT_NS: u64 = 50_000;
            let ns = if a2 as i64 <= 0 { DEFAULT_NS } else { a2 };
            t.timer_slack_ns.store(ns, Ordering::Relaxed);
            Ok(0)
        }
        P::PR_GET_TIMERSLACK => Ok(t.timer_slack_ns.load(Ordering::Relaxed)),
        // PR_MCE_KILL_DEFAULT.
        P::PR_MCE_KILL_GET => zero(&[a2, a3, a4, a5]).map(|()| 2),
        P::PR_SET_CHILD_SUBREAPER => {
            p.child_subreaper.store(a2 != 0, Ordering::Relaxed);
            Ok(0)
        }
        P::PR_GET_CHILD_SUBREAPER => {
            let v = i32::from(p.child_subreaper.load(Ordering::Relaxed));
            mm(cx).put(a2, &v)?;
            Ok(0)
        }
        P::PR_SET_NO_NEW_PRIVS => {
            zero(&[a3, a4, a5])?;
            if a2 != 1 {
                return Err(Errno::EINVAL);
            }
            edit(cx, |c| c.no_new_privs = true);
            Ok(0)
        }
        P::PR_GET_NO_NEW_PRIVS => {
            zero(&[a2, a3, a4, a5])?;
            Ok(u64::from(cred.no_new_privs))
        }
        P::PR_GET_TID_ADDRESS => {
            let addr = t.clear_child_tid.load(Ordering::Relaxed);
            mm(cx).put(a2, &addr)?;
            Ok(0)
        }
        // There are no huge pages: they are disabled, and stay so.
        P::PR_GET_THP_DISABLE => zero(&[a2, a3, a4, a5]).map(|()| 1),
        P::PR_SET_THP_DISABLE if a2 != 0 => zero(&[a3, a4, a5]).map(|()| 0),
        // PR_TSC_ENABLE.
        P::PR_GET_TSC => {
            mm(cx).put(a2, &1i32)?;
            Ok(0)
        }
        P::PR_SET_TSC if a2 == 1 => Ok(0),
        P::PR_GET_MDWE => zero(&[a2, a3, a4, a5]).map(|()| 0),
        P::PR_CAP_AMBIENT => ambient(cx, &cred, a2, a3, &[a4, a5]),
        // Lodger's own: whether call sites stay as they are. Kept by fork and exec, for good.
        P::PR_SET_KEEP_CODE => {
            zero(&[a3, a4, a5])?;
            if a2 != 1 {
                return Err(Errno::EINVAL);
            }
            mm(cx).keep_code();
            Ok(0)
        }
        P::PR_GET_KEEP_CODE => {
            zero(&[a2, a3, a4, a5])?;
            Ok(u64::from(mm(cx).keeps_code()))
        }
        // Names of mappings are not kept, as without CONFIG_ANON_VMA_NAME.
        P::PR_SET_VMA => Err(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

/// PR_CAP_AMBIENT.
fn ambient(cx: &Ctx, cred: &Cred, what: u64, n: u64, rest: &[u64]) -> Result<u64> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if rest.iter().any(|a| *a != 0) {
        return Err(Errno::EINVAL);
    }
    if what == CLEAR_ALL {
        if n != 0 {
            return Err(Errno::EINVAL);
        }
        edit(cx, |c| c.ambient = CapSet(0));
        return Ok(0);
    }
    let bit = cap_bit(n)?;
    match what {
        IS_SET => Ok(u64::from(cred.ambient.0 & bit != 0)),
        RAISE => {
            if cred.permitted.0 & cred.inheritable.0 & bit == 0
                || cred.securebits & NO_CAP_AMBIENT_RAISE != 0
            {
                return Err(Errno::EPERM);
            }
            edit(cx, |c| c.ambient.0 |= bit);
            Ok(0)
        }
        LOWER => {
            edit(cx, |c| c.ambient.0 &= !bit);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
