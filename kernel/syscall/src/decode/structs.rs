//! How the structures of the ABI read in a trace: the members one looks for.

use super::{Describe, Line};
use crate::flags::OpenArg;
use abi::io::{FOwnerEx, Flock, IoVec, MsgHdr, OpenHow};
use abi::process::{
    CapData, CapHeader, CloneArgs, RLIM_INFINITY, Rlimit, Rusage, SchedAttr, Sysinfo, Utsname,
};
use abi::stat::{Stat, Statfs, Statx};
use abi::time::{
    Itimerspec, Itimerval, Sigevent, Timespec, Timeval, Timex, Timezone, Tms, Utimbuf,
};
use abi::{SigAction, SigInfo, SigSet, SigStack};

macro_rules! numbers {
    ($($t:ty)*) => { $(
        impl Describe for $t {
            fn describe(&self, line: &mut Line<'_>) {
                line.put(format_args!("[{self}]"));
            }
        }
    )* };
}
numbers! { i32 u32 i64 u64 }

impl<T: Describe, const N: usize> Describe for [T; N] {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("[");
        for (i, v) in self.iter().enumerate() {
            if i > 0 {
                line.text(", ");
            }
            v.describe(line);
        }
        line.text("]");
    }
}

/// `int [2]` of pipe(2) and socketpair(2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
)]
#[repr(C)]
pub struct FdPair(pub i32, pub i32);

impl Describe for FdPair {
    fn describe(&self, line: &mut Line<'_>) {
        line.put(format_args!("[{}, {}]", self.0, self.1));
    }
}

/// Wait status of wait(2).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
)]
#[repr(transparent)]
pub struct WaitStatus(pub i32);

impl Describe for WaitStatus {
    fn describe(&self, line: &mut Line<'_>) {
        let (low, high) = (self.0 & 0x7f, self.0 >> 8 & 0xff);
        line.text("[{");
        match self.0 {
            0xffff => line.text("WIFCONTINUED(s)"),
            s if s & 0xff == 0x7f => {
                line.text("WIFSTOPPED(s) && WSTOPSIG(s) == ");
                line.signal(high);
            }
            _ if low == 0 => {
                line.put(format_args!("WIFEXITED(s) && WEXITSTATUS(s) == {high}"));
            }
            s => {
                line.text("WIFSIGNALED(s) && WTERMSIG(s) == ");
                line.signal(low);
                if s & 0x80 != 0 {
                    line.text(" && WCOREDUMP(s)");
                }
            }
        }
        line.text("}]");
    }
}

macro_rules! describe {
    ($($t:ty: $s:ident => $fmt:literal $(, $e:expr)*;)*) => { $(
        impl Describe for $t {
            fn describe(&self, line: &mut Line<'_>) {
                let $s = self;
                line.put(format_args!($fmt $(, $e)*));
            }
        }
    )* };
}

describe! {
    Timespec: t => "{{tv_sec={}, tv_nsec={}}}", t.sec, t.nsec;
    Timeval: t => "{{tv_sec={}, tv_usec={}}}", t.sec, t.usec;
    Timezone: t => "{{tz_minuteswest={}, tz_dsttime={}}}", t.minuteswest, t.dsttime;
    Tms: t => "{{tms_utime={}, tms_stime={}, tms_cutime={}, tms_cstime={}}}", t.utime, t.stime, t.cutime, t.cstime;
    Utimbuf: t => "{{actime={}, modtime={}}}", t.actime, t.modtime;
    Timex: t => "{{modes={:#x}, ...}}", t.modes;
    Stat: s => "{{st_mode=0{:o}, st_size={}, ...}}", s.mode, s.size;
    Statx: s => "{{stx_mask={:#x}, stx_mode=0{:o}, stx_size={}, ...}}", s.mask, s.mode, s.size;
    Statfs: s => "{{f_type={:#x}, f_bsize={}, f_blocks={}, f_bfree={}, ...}}", s.f_type, s.bsize, s.blocks, s.bfree;
    IoVec: v => "{{iov_base={:#x}, iov_len={}}}", v.base, v.len;
    Flock: l => "{{l_type={}, l_whence={}, l_start={}, l_len={}}}", LOCKS.get(l.kind as usize).unwrap_or(&"?"), WHENCE.get(l.whence as usize).unwrap_or(&"?"), l.start, l.len;
    FOwnerEx: o => "{{type={}, pid={}}}", o.kind, o.pid;
    MsgHdr: m => "{{msg_name={:#x}, msg_iov={:#x}, msg_iovlen={}, msg_controllen={}, msg_flags={:#x}}}", m.name, m.iov, m.iovlen, m.controllen, m.flags;
    Rusage: r => "{{ru_utime={}.{:06}, ru_stime={}.{:06}, ...}}", r.utime.sec, r.utime.usec, r.stime.sec, r.stime.usec;
    Sysinfo: s => "{{uptime={}, totalram={}, freeram={}, procs={}, ...}}", s.uptime, s.totalram, s.freeram, s.procs;
    SchedAttr: a => "{{size={}, sched_policy={}, sched_nice={}, sched_priority={}, ...}}", a.size, a.policy, a.nice, a.priority;
    CapHeader: h => "{{version={:#x}, pid={}}}", h.version, h.pid;
    CapData: c => "{{effective={:#x}, permitted={:#x}, inheritable={:#x}}}", c.effective, c.permitted, c.inheritable;
    SigStack: s => "{{ss_sp={:#x}, ss_flags={:#x}, ss_size={}}}", s.sp, s.flags, s.size;
}

const LOCKS: &[&str] = &["F_RDLCK", "F_WRLCK", "F_UNLCK"];
const WHENCE: &[&str] = &["SEEK_SET", "SEEK_CUR", "SEEK_END"];

impl Describe for Itimerspec {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{it_interval=");
        self.interval.describe(line);
        line.text(", it_value=");
        self.value.describe(line);
        line.text("}");
    }
}

impl Describe for Itimerval {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{it_interval=");
        self.interval.describe(line);
        line.text(", it_value=");
        self.value.describe(line);
        line.text("}");
    }
}

impl Describe for Utsname {
    fn describe(&self, line: &mut Line<'_>) {
        let cut = |s: &[u8]| s.iter().position(|b| *b == 0).unwrap_or(s.len());
        line.text("{sysname=");
        line.quoted(&self.sysname[..cut(&self.sysname)], false);
        line.text(", nodename=");
        line.quoted(&self.nodename[..cut(&self.nodename)], false);
        line.text(", ...}");
    }
}

impl Describe for Rlimit {
    fn describe(&self, line: &mut Line<'_>) {
        for (text, v) in [("{rlim_cur=", self.cur), (", rlim_max=", self.max)] {
            line.text(text);
            if v == RLIM_INFINITY {
                line.text("RLIM64_INFINITY");
            } else {
                line.put(format_args!("{v}"));
            }
        }
        line.text("}");
    }
}

impl Describe for SigSet {
    fn describe(&self, line: &mut Line<'_>) {
        // Nearly full sets read better as what is missing.
        let (set, open) = if self.0.count_ones() > 32 {
            (!self.0, "~[")
        } else {
            (self.0, "[")
        };
        line.text(open);
        let mut rest = SigSet(set);
        let mut first = true;
        while let Some(s) = rest.first() {
            rest = rest.without(s);
            if !core::mem::take(&mut first) {
                line.text(" ");
            }
            match super::signal_name(s) {
                Some(n) => line.text(n.trim_start_matches("SIG")),
                None => line.put(format_args!("RT_{}", s - abi::signal::SIGRTMIN)),
            }
        }
        line.text("]");
    }
}

impl Describe for SigAction {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{sa_handler=");
        match self.handler {
            0 => line.text("SIG_DFL"),
            1 => line.text("SIG_IGN"),
            h => line.pointer(h),
        }
        line.text(", sa_mask=");
        self.mask.describe(line);
        line.text(", sa_flags=");
        line.flags(
            self.flags,
            &[
                ("SA_NOCLDSTOP", 1),
                ("SA_NOCLDWAIT", 2),
                ("SA_SIGINFO", 4),
                ("SA_RESTORER", 0x400_0000),
                ("SA_ONSTACK", 0x800_0000),
                ("SA_RESTART", 0x1000_0000),
                ("SA_NODEFER", 0x4000_0000),
                ("SA_RESETHAND", 0x8000_0000),
            ],
        );
        line.text("}");
    }
}

impl Describe for SigInfo {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{si_signo=");
        line.signal(self.signo);
        line.put(format_args!(
            ", si_code={}, si_pid={}, si_uid={}, ...}}",
            self.code,
            self.fields[0] as u32,
            (self.fields[0] >> 32) as u32
        ));
    }
}

impl Describe for Sigevent {
    fn describe(&self, line: &mut Line<'_>) {
        line.put(format_args!(
            "{{sigev_value={:#x}, sigev_signo=",
            self.value
        ));
        line.signal(self.signo);
        line.put(format_args!(", sigev_notify={}}}", self.notify));
    }
}

impl Describe for OpenHow {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{flags=");
        OpenArg::describe(line, self.flags as u32);
        line.put(format_args!(
            ", mode=0{:o}, resolve={:#x}}}",
            self.mode, self.resolve
        ));
    }
}

impl Describe for CloneArgs {
    fn describe(&self, line: &mut Line<'_>) {
        line.text("{flags=");
        crate::flags::CloneArg::describe(line, self.flags);
        line.text(", exit_signal=");
        line.signal(self.exit_signal as i32);
        line.put(format_args!(
            ", stack={:#x}, stack_size={:#x}, tls={:#x}}}",
            self.stack, self.stack_size, self.tls
        ));
    }
}
