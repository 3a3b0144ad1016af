//! ioctl_tty(2).

use crate::pty::Pty;
use crate::termios::Termios;
use crate::tty::{Tty, TtyFile};
use abi::ioctl::*;
use abi::signal::SIGTTOU;
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::Mm;
use vfs::File;
use vfs::cred::cap;
use vfs::file::Caller;

fn memory(cx: &dyn Caller) -> Result<Arc<Mm>> {
    cx.mm().ok_or(Errno::EFAULT)
}

/// An int result at `arg`.
fn answer(cx: &dyn Caller, arg: u64, v: i32) -> Result<u64> {
    memory(cx)?.put(arg, &v)?;
    Ok(0)
}

fn count(n: usize) -> i32 {
    n.min(i32::MAX as usize) as i32
}

impl TtyFile {
    pub(crate) fn do_ioctl(&self, f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        let t = &self.tty;
        if self.dead() {
            return Err(if cmd == TIOCSPGRP {
                Errno::ENOTTY
            } else {
                Errno::EIO
            });
        }
        match cmd {
            FIONREAD => {
                let n = t.state.lock().ldisc.available();
                answer(cx, arg, count(n))
            }
            TIOCOUTQ => answer(cx, arg, count(t.unsent())),
            TIOCSTI => {
                let cap = cx.cred().capable(cap::SYS_ADMIN);
                if !cap {
                    return Err(Errno::EIO);
                }
                let b: u8 = memory(cx)?.get(arg)?;
                t.input(&[b]);
                Ok(0)
            }
            TIOCSCTTY => {
                t.set_controlling(cx, f.flags().readable(), arg == 1)?;
                Ok(0)
            }
            TIOCNOTTY => {
                t.give_up(cx)?;
                Ok(0)
            }
            TIOCGPGRP => {
                t.require_control(cx)?;
                answer(cx, arg, t.foreground())
            }
            TIOCGSID => {
                t.require_control(cx)?;
                let sid = t.state.lock().sid;
                answer(cx, arg, sid)
            }
            TIOCSPGRP => {
                match t.check_job(cx, SIGTTOU) {
                    Err(Errno::EIO) => return Err(Errno::ENOTTY),
                    r => r?,
                }
                let pgrp: i32 = memory(cx)?.get(arg)?;
                t.set_foreground(cx, pgrp)?;
                Ok(0)
            }
            _ => t.common_ioctl(cx, cmd, arg),
        }
    }
}

impl Tty {
    /// Output that has not been shown yet, in bytes.
    pub(crate) fn unsent(&self) -> usize {
        // What is in a pseudo-terminal's buffer has been sent: it is the other side's input.
        if self.line.is_pty() {
            return 0;
        }
        let own = self.state.lock().ldisc.out.len();
        own + self.line.unsent()
    }
    /// Requests that a terminal and the master of a pseudo-terminal share.
    pub(crate) fn common_ioctl(&self, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            TCGETS | TCGETS2 | TCGETA => {
                let t = self.termios();
                let mm = memory(cx)?;
                match cmd {
                    TCGETS => t.put_old(&mm, arg)?,
                    TCGETS2 => t.put_new(&mm, arg)?,
                    _ => t.put_termio(&mm, arg)?,
                }
                Ok(0)
            }
            TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 | TCSETA | TCSETAW
            | TCSETAF => {
                self.check_job(cx, SIGTTOU)?;
                let old = self.termios();
                let mm = memory(cx)?;
                let new = match cmd {
                    TCSETS | TCSETSW | TCSETSF => old.get_old(&mm, arg)?,
                    TCSETS2 | TCSETSW2 | TCSETSF2 => old.get_new(&mm, arg)?,
                    _ => old.get_termio(&mm, arg)?,
                };
                let flush = matches!(cmd, TCSETSF | TCSETSF2 | TCSETAF);
                let drain = flush || matches!(cmd, TCSETSW | TCSETSW2 | TCSETAW);
                if drain {
                    self.drain()?;
                }
                self.line.used();
                self.set_termios(new, flush);
                Ok(0)
            }
            TIOCGWINSZ => {
                let size = self.state.lock().winsize;
                memory(cx)?.put(arg, &size)?;
                Ok(0)
            }
            TIOCSWINSZ => {
                let size: [u16; 4] = memory(cx)?.get(arg)?;
                self.resize(size);
                Ok(0)
            }
            TCSBRK | TCSBRKP => {
                // There is no line to send a break on; what was written is waited for.
                self.check_job(cx, SIGTTOU)?;
                self.drain()?;
                Ok(0)
            }
            TIOCSBRK | TIOCCBRK => Ok(0),
            TCXONC => {
                self.check_job(cx, SIGTTOU)?;
                self.flow(arg)
            }
            TCFLSH => {
                self.check_job(cx, SIGTTOU)?;
                let (input, output) = match arg {
                    0 => (true, false),
                    1 => (false, true),
                    2 => (true, true),
                    _ => return Err(Errno::EINVAL),
                };
                {
                    let mut s = self.state.lock();
                    if input {
                        s.pending.clear();
                        s.ldisc.flush_input();
                    }
                    if output {
                        s.ldisc.flush_output();
                    }
                }
                self.line.input_room(self);
                self.line.output(self);
                self.wake_writers();
                Ok(0)
            }
            TIOCEXCL | TIOCNXCL => {
                self.state.lock().exclusive = cmd == TIOCEXCL;
                Ok(0)
            }
            TIOCGEXCL => {
                let on = self.state.lock().exclusive;
                answer(cx, arg, on as i32)
            }
            TIOCGDEV => {
                memory(cx)?.put(arg, &(self.dev as u32))?;
                Ok(0)
            }
            TIOCGETD => answer(cx, arg, 0),
            TIOCSETD => {
                let d: i32 = memory(cx)?.get(arg)?;
                if d == 0 { Ok(0) } else { Err(Errno::EINVAL) }
            }
            TIOCVHANGUP => {
                if !cx.cred().capable(cap::SYS_ADMIN) {
                    return Err(Errno::EPERM);
                }
                self.hang_up();
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
    pub(crate) fn set_termios(&self, new: Termios, flush: bool) {
        {
            let mut s = self.state.lock();
            if flush {
                s.pending.clear();
                s.ldisc.flush_input();
            }
            s.ldisc.set_termios(new);
        }
        // Readers look again with the new settings; output may have been started.
        self.read_wait.wake_all();
        self.line.output(self);
        self.wake_writers();
    }
    /// Waits until everything written has left. A pseudo-terminal counts as instant.
    fn drain(&self) -> Result {
        if self.line.is_pty() {
            return Ok(());
        }
        // Wake-up proof: the console takes bytes out before it wakes `write_wait`.
        self.write_wait
            .wait(|| (self.unsent() == 0 || self.line.broken()).then_some(()))
    }
    /// Waits until what has been written so far has left, whatever signals come. What
    /// others write meanwhile is not waited for.
    pub(crate) fn finish_output(&self) {
        let more = self.unsent() as u64;
        // Read after that: what leaves in between is waited for once more than needed.
        let end = self.line.sent().saturating_add(more);
        // Wake-up proof: as for `drain`; the bytes are counted before that wake, too.
        self.write_wait.wait_uninterruptible(|| {
            let done = self.unsent() == 0 || self.line.sent() >= end || self.line.broken();
            done.then_some(())
        });
    }
    /// TCXONC.
    fn flow(&self, how: u64) -> Result<u64> {
        let send = {
            let mut s = self.state.lock();
            let t = &s.ldisc.termios;
            let (start, stop) = (
                t.cc[crate::termios::cc::START],
                t.cc[crate::termios::cc::STOP],
            );
            let send = match how {
                0 => {
                    s.ldisc.stop();
                    0
                }
                1 => {
                    s.ldisc.start();
                    0
                }
                2 => stop,
                3 => start,
                _ => return Err(Errno::EINVAL),
            };
            if send != 0 {
                s.ldisc.out.push_back(send);
            }
            send
        };
        self.line.output(self);
        if send == 0 {
            self.wake_writers();
        }
        Ok(0)
    }
}

impl Pty {
    pub(crate) fn master_ioctl(&self, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        let t = self.slave();
        match cmd {
            TIOCSPTLCK => {
                let v: i32 = memory(cx)?.get(arg)?;
                self.set_locked(v != 0);
                Ok(0)
            }
            TIOCGPTLCK => answer(cx, arg, self.locked() as i32),
            TIOCGPTN => answer(cx, arg, self.index as i32),
            TIOCPKT => {
                let v: i32 = memory(cx)?.get(arg)?;
                self.set_packet(v != 0);
                Ok(0)
            }
            TIOCGPKT => answer(cx, arg, self.packet() as i32),
            TIOCGPTPEER => self.open_peer(cx, arg),
            TIOCSIG => {
                let signo = i32::try_from(arg).map_err(|_| Errno::EINVAL)?;
                if !(1..=64).contains(&signo) {
                    return Err(Errno::EINVAL);
                }
                t.signal_group(t.foreground(), signo);
                Ok(0)
            }
            FIONREAD => answer(cx, arg, count(t.state.lock().ldisc.out.len())),
            TIOCOUTQ => answer(cx, arg, 0),
            // The master is nobody's controlling terminal, but may ask.
            TIOCGPGRP => answer(cx, arg, t.foreground()),
            TIOCGSID => {
                let sid = t.state.lock().sid;
                if sid == 0 {
                    return Err(Errno::ENOTTY);
                }
                answer(cx, arg, sid)
            }
            TIOCSPGRP => {
                let pgrp: i32 = memory(cx)?.get(arg)?;
                t.set_foreground(cx, pgrp)?;
                Ok(0)
            }
            TIOCSCTTY | TIOCNOTTY | TIOCSTI | TIOCVHANGUP => Err(Errno::ENOTTY),
            _ => t.common_ioctl(cx, cmd, arg),
        }
    }
}
