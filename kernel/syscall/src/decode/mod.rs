//! Trace lines in the manner of strace(1): `[12] openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3`.
//!
//! A line is built in two steps around the call: what the program passed in is
//! copied before (the call may change it), what the kernel fills in after.
//! Tracing copies from guest memory on its own; that a copy fails only shows as an address.

mod structs;

pub use structs::{FdPair, WaitStatus};

use crate::table::Row;
use abi::io::IoVec;
use abi::{Errno, Result, signal};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Arguments, Write};
use mm::Mm;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most bytes of a buffer that a trace shows.
const SHOWN_BYTES: usize = 32;
/// Most elements of a vector that a trace shows.
const SHOWN_ITEMS: usize = 16;

/// How a structure reads in a trace.
pub trait Describe {
    /// Appends the text.
    fn describe(&self, line: &mut Line<'_>);
}

/// A trace text under construction.
pub struct Line<'a> {
    mm: Option<&'a Mm>,
    out: String,
    ret: Result<u64>,
}

impl<'a> Line<'a> {
    /// An empty line; `ret` is what the call gave, if it is over.
    pub fn new(mm: Option<&'a Mm>, ret: Result<u64>) -> Line<'a> {
        Line {
            mm,
            out: String::new(),
            ret,
        }
    }
    /// What the call gave.
    pub fn result(&self) -> Result<u64> {
        self.ret
    }
    /// The text so far.
    pub fn into_text(self) -> String {
        self.out
    }
    /// Appends formatted text.
    pub fn put(&mut self, a: Arguments<'_>) {
        // A String takes everything.
        let _ = self.out.write_fmt(a);
    }
    /// Appends text.
    pub fn text(&mut self, s: &str) {
        self.out.push_str(s);
    }
    /// Appends an address.
    pub fn pointer(&mut self, addr: u64) {
        if addr == 0 {
            self.text("NULL");
        } else {
            self.put(format_args!("{addr:#x}"));
        }
    }
    /// Appends the string at `addr`.
    pub fn string(&mut self, addr: u64) {
        match self.mm.map(|mm| mm.read_cstr(addr, abi::io::PATH_MAX)) {
            Some(Ok(s)) if addr != 0 => self.quoted(&s, false),
            _ => self.pointer(addr),
        }
    }
    /// Appends `len` bytes at `addr`, cut to a readable number.
    pub fn bytes(&mut self, addr: u64, len: u64) {
        let mut buf = [0u8; SHOWN_BYTES];
        let n = usize::try_from(len).unwrap_or(usize::MAX).min(SHOWN_BYTES);
        let cut = len > n as u64;
        match self.mm {
            Some(mm) if addr != 0 && mm.read(addr, &mut buf[..n]).is_ok() => {
                self.quoted(&buf[..n], cut);
            }
            _ => self.pointer(addr),
        }
    }
    /// Appends a C string literal.
    pub fn quoted(&mut self, s: &[u8], cut: bool) {
        self.text("\"");
        for (i, &b) in s.iter().enumerate() {
            match b {
                b'"' => self.text("\\\""),
                b'\\' => self.text("\\\\"),
                b'\n' => self.text("\\n"),
                b'\t' => self.text("\\t"),
                b'\r' => self.text("\\r"),
                0x20..=0x7e => self.out.push(b as char),
                _ if s.get(i + 1).is_some_and(u8::is_ascii_digit) => {
                    self.put(format_args!("\\{b:03o}"));
                }
                _ => self.put(format_args!("\\{b:o}")),
            }
        }
        self.text(if cut { "\"..." } else { "\"" });
    }
    /// Appends I/O vectors with at most `limit` bytes of data.
    pub fn iovec(&mut self, addr: u64, n: u64, mut limit: u64) {
        let shown = usize::try_from(n).unwrap_or(usize::MAX).min(SHOWN_ITEMS);
        let Some(Ok(v)) = self.mm.map(|mm| mm.get_vec::<IoVec>(addr, shown)) else {
            return self.pointer(addr);
        };
        self.text("[");
        for (i, e) in v.iter().enumerate() {
            self.text(if i > 0 { ", {iov_base=" } else { "{iov_base=" });
            let k = e.len.min(limit);
            limit -= k;
            self.bytes(e.base, k);
            self.put(format_args!(", iov_len={}}}", e.len));
        }
        self.text(if n > shown as u64 { ", ...]" } else { "]" });
    }
    /// Appends the structure at `addr`.
    pub fn structure<T: FromBytes + IntoBytes + Immutable + Describe>(&mut self, addr: u64) {
        match self.mm.map(|mm| mm.get::<T>(addr)) {
            Some(Ok(v)) if addr != 0 => v.describe(self),
            _ => self.pointer(addr),
        }
    }
    /// Appends `n` structures at `addr`.
    pub fn list<T: FromBytes + IntoBytes + Immutable + Clone + Describe>(
        &mut self,
        addr: u64,
        n: u64,
    ) {
        let shown = usize::try_from(n).unwrap_or(usize::MAX).min(SHOWN_ITEMS);
        let Some(Ok(v)) = self.mm.map(|mm| mm.get_vec::<T>(addr, shown)) else {
            return self.pointer(addr);
        };
        self.text("[");
        for (i, e) in v.iter().enumerate() {
            if i > 0 {
                self.text(", ");
            }
            e.describe(self);
        }
        self.text(if n > shown as u64 { ", ...]" } else { "]" });
    }
    /// Appends a NULL-terminated vector of strings.
    pub fn string_vec(&mut self, addr: u64) {
        if addr == 0 {
            return self.text("NULL");
        }
        self.text("[");
        for i in 0..=SHOWN_ITEMS as u64 {
            let p = match self.mm.map(|mm| mm.get::<u64>(addr.wrapping_add(i * 8))) {
                Some(Ok(0)) => break,
                Some(Ok(p)) => p,
                _ => {
                    self.pointer(addr);
                    break;
                }
            };
            if i > 0 {
                self.text(", ");
            }
            if i == SHOWN_ITEMS as u64 {
                self.text("...");
                break;
            }
            self.string(p);
        }
        self.text("]");
    }
    /// Appends a socket address.
    pub fn sockaddr(&mut self, addr: u64, len: u32) {
        let mut buf = [0u8; 128];
        let n = (len as usize).min(buf.len());
        match self.mm {
            Some(mm) if addr != 0 && n >= 2 && mm.read(addr, &mut buf[..n]).is_ok() => {}
            _ => return self.pointer(addr),
        }
        let family = u16::from_le_bytes([buf[0], buf[1]]);
        match family {
            1 => {
                self.text("{sa_family=AF_UNIX");
                let path = &buf[2..n];
                if path.first() == Some(&0) && n > 3 {
                    self.text(", sun_path=@");
                    self.quoted(&path[1..], false);
                } else if n > 2 {
                    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
                    self.text(", sun_path=");
                    self.quoted(&path[..end], false);
                }
                self.text("}");
            }
            2 if n >= 8 => self.put(format_args!(
                "{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr(\"{}.{}.{}.{}\")}}",
                u16::from_be_bytes([buf[2], buf[3]]),
                buf[4],
                buf[5],
                buf[6],
                buf[7]
            )),
            10 => self.put(format_args!(
                "{{sa_family=AF_INET6, sin6_port=htons({}), ...}}",
                u16::from_be_bytes([buf[2], buf[3]])
            )),
            16 => self.text("{sa_family=AF_NETLINK, ...}"),
            f => self.put(format_args!("{{sa_family={f:#x}, ...}}")),
        }
    }
    /// Appends a signal.
    pub fn signal(&mut self, s: i32) {
        match signal_name(s) {
            Some(n) => self.text(n),
            None if (signal::SIGRTMIN..=signal::SIGRTMAX).contains(&s) => {
                self.put(format_args!("SIGRT_{}", s - signal::SIGRTMIN));
            }
            None => self.put(format_args!("{s}")),
        }
    }
    /// Appends a word of flags.
    pub fn flags(&mut self, mut v: u64, names: &[(&str, u64)]) {
        if v == 0 {
            return self.text("0");
        }
        let mut first = true;
        for (name, bit) in names {
            if *bit != 0 && v & bit == *bit {
                if !core::mem::take(&mut first) {
                    self.text("|");
                }
                self.text(name);
                v &= !bit;
            }
        }
        if v != 0 {
            self.put(format_args!("{}{v:#x}", if first { "" } else { "|" }));
        }
    }
    /// Appends one of several values.
    pub fn choice(&mut self, v: i64, names: &[(&str, u64)]) {
        let same = |w: u64| w as u32 == v as u32;
        match names.iter().find(|(_, w)| same(*w)) {
            Some((n, _)) => self.text(n),
            None => self.put(format_args!("{:#x}", v as u32)),
        }
    }
}

/// Name of a standard signal.
pub fn signal_name(s: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::try_from(s)
        .ok()?
        .checked_sub(1)
        .and_then(|i| NAMES.get(i).copied())
}

/// A call being traced.
pub struct Trace {
    row: Option<&'static Row>,
    nr: u64,
    args: [u64; 6],
    /// Texts of the arguments that were passed in; `None`: shown after the call.
    texts: Vec<Option<String>>,
}

impl Trace {
    /// Notes down what goes in.
    pub fn enter(row: Option<&'static Row>, nr: u64, args: &[u64; 6], mm: Option<&Mm>) -> Trace {
        let descs = row.map_or(&[][..], |r| r.args);
        let texts = descs
            .iter()
            .enumerate()
            .map(|(i, d)| {
                (!d.out).then(|| {
                    let mut line = Line::new(mm, Ok(0));
                    (d.show)(&mut line, args, i);
                    line.into_text()
                })
            })
            .collect();
        Trace {
            row,
            nr,
            args: *args,
            texts,
        }
    }
    /// The call with its arguments, without a result (the call does not return).
    pub fn without_result(self, tid: i32) -> String {
        let mut text = self.call(tid, None, Err(Errno::ENOSYS));
        text.push_str(" = ?");
        text
    }
    /// The whole line.
    pub fn leave(self, tid: i32, mm: Option<&Mm>, result: Result<u64>) -> String {
        let pointer = self.row.is_some_and(|r| r.returns_address());
        let mut text = self.call(tid, mm, result);
        let _ = match result {
            Ok(v) if pointer => write!(text, " = {v:#x}"),
            Ok(v) => write!(text, " = {}", v as i64),
            Err(e) if e.0 >= 512 => write!(text, " = ? {}", e.name()),
            Err(e) => write!(text, " = -1 {}", e.name()),
        };
        text
    }
    fn call(&self, tid: i32, mm: Option<&Mm>, result: Result<u64>) -> String {
        let mut line = Line::new(mm, result);
        line.put(format_args!("[{tid}] "));
        let Some(row) = self.row else {
            line.put(format_args!("syscall_{}(", self.nr));
            for (i, a) in self.args.iter().enumerate() {
                line.put(format_args!("{}{a:#x}", if i > 0 { ", " } else { "" }));
            }
            line.text(")");
            return line.into_text();
        };
        line.put(format_args!("{}(", row.name));
        for (i, (d, t)) in row.args.iter().zip(&self.texts).enumerate() {
            // An argument without text means nothing in this call.
            if t.as_ref().is_some_and(String::is_empty) {
                continue;
            }
            if i > 0 {
                line.text(", ");
            }
            match t {
                Some(t) => line.text(t),
                None => (d.show)(&mut line, &self.args, i),
            }
        }
        line.text(")");
        line.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Arg;
    use crate::flags::{CloneArg, FutexOp, MapArg, OpenArg, ProtArg, SockType};

    fn show<T: Arg>(v: u64) -> String {
        let mut line = Line::new(None, Ok(0));
        T::show(&mut line, &[v, 0, 0, 0, 0, 0], 0);
        line.into_text()
    }

    #[test]
    fn flags_by_name() {
        assert_eq!(show::<OpenArg>(0o2000000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(show::<OpenArg>(0o1101), "O_WRONLY|O_CREAT|O_TRUNC");
        assert_eq!(show::<OpenArg>(0o20200002), "O_RDWR|O_TMPFILE");
        assert_eq!(show::<ProtArg>(3), "PROT_READ|PROT_WRITE");
        assert_eq!(show::<ProtArg>(0), "0");
        assert_eq!(show::<MapArg>(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(show::<SockType>(0o2000001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(
            show::<CloneArg>(0x1200011),
            "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"
        );
        assert_eq!(
            show::<FutexOp>(0x189),
            "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME"
        );
        assert_eq!(show::<ProtArg>(0x40), "0x40");
    }

    #[test]
    fn text_is_escaped() {
        let mut line = Line::new(None, Ok(0));
        line.quoted(b"a\"\n\x01\x012\xff", true);
        assert_eq!(line.into_text(), "\"a\\\"\\n\\1\\0012\\377\"...");
    }

    #[test]
    fn results() {
        let line = |r| Trace::enter(None, 999, &[1; 6], None).leave(7, None, r);
        assert_eq!(
            line(Err(Errno::ENOSYS)),
            "[7] syscall_999(0x1, 0x1, 0x1, 0x1, 0x1, 0x1) = -1 ENOSYS"
        );
        assert!(line(Ok(5)).ends_with(" = 5"));
        assert!(line(Err(Errno::ERESTARTSYS)).ends_with(" = ? ERESTARTSYS"));
    }
}
