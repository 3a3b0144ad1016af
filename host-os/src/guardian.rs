//! A tiny process that gives the terminal back if the kernel process is killed.
//!
//! It is forked before the first thread, leaves the session, keeps the
//! terminal and the read end of a pipe, and waits for the kernel process's
//! end. What is to be restored stands in a page that both share. On an orderly
//! end the kernel process restores the terminal itself and dismisses the guardian.

#![expect(unsafe_code, reason = "forks and maps the shared page")]

use crate::confine;
use core::sync::atomic::{AtomicU32, Ordering};
use host_sys::tty::{self, Termios};
use host_sys::{Errno, event, fd, file, mem, misc, signal, task};

/// The page shared with the guardian: settings to restore.
pub(crate) struct Page {
    armed: AtomicU32,
    words: [AtomicU32; 9],
}

impl Page {
    /// A new page, shared with processes forked later.
    fn map() -> Result<&'static Page, Errno> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the host's choice.
        let at = unsafe { mem::mmap(0, size_of::<Page>(), prot, flags, -1, 0)? };
        let page: *const Page = core::ptr::with_exposed_provenance(at);
        // SAFETY: mapped for ever, aligned, and all zero is a valid page.
        Ok(unsafe { &*page })
    }
    /// Processes forked from now on do not get it: guests may write to what they have.
    fn keep(&'static self) -> Result<(), Errno> {
        let at = core::ptr::from_ref(self).addr();
        // SAFETY: changes nothing for this process.
        unsafe { mem::madvise(at, size_of::<Page>(), libc::MADV_DONTFORK) }
    }
    /// From now on `saved` is to be restored.
    pub(crate) fn arm(&self, saved: &Termios) {
        for (w, b) in self.words.iter().zip(saved.to_bytes().chunks(4)) {
            let b: [u8; 4] = b.try_into().unwrap_or_default();
            w.store(u32::from_ne_bytes(b), Ordering::Relaxed);
        }
        self.armed.store(1, Ordering::Release);
    }
    /// Nothing is to be restored any more. Whether something was.
    pub(crate) fn disarm(&self) -> bool {
        self.armed.swap(0, Ordering::AcqRel) != 0
    }
    /// Whether something is to be restored.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire) != 0
    }
    /// The settings last armed.
    pub(crate) fn saved(&self) -> Termios {
        let w = |i: usize| self.words[i].load(Ordering::Relaxed);
        let mut t = Termios {
            iflag: w(0),
            oflag: w(1),
            cflag: w(2),
            lflag: w(3),
            ..Termios::default()
        };
        let mut tail = [0; 20];
        for i in 0..5 {
            tail[4 * i..4 * i + 4].copy_from_slice(&w(4 + i).to_ne_bytes());
        }
        t.line = tail[0];
        t.cc.copy_from_slice(&tail[1..]);
        t
    }
}

/// The kernel process's handle.
pub(crate) struct Guardian {
    pub(crate) page: &'static Page,
    pipe: i32,
    pid: i32,
}

impl Guardian {
    /// Forks the guardian of terminal `tty`. This process must have one thread.
    pub(crate) fn start(tty: i32) -> Result<Guardian, Errno> {
        let page = Page::map()?;
        let [ours, theirs] = fd::socketpair(libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?;
        let parent = task::getpid();
        // Made and dropped here: in the guardian, giving memory back may take calls that it is not to make.
        let calls = confine::guardian_calls();
        // SAFETY: one thread; the child only makes raw calls and never returns.
        match unsafe { misc::fork() } {
            Ok(0) => guard(tty, theirs, page, parent, &calls),
            Ok(pid) => {
                fd::close(theirs);
                page.keep()?;
                Ok(Guardian {
                    page,
                    pipe: ours,
                    pid,
                })
            }
            Err(e) => {
                fd::close(ours);
                fd::close(theirs);
                Err(e)
            }
        }
    }

    /// Our end of its pipe, and its number. It restores the terminal when that end closes.
    pub(crate) fn handle(&self) -> (i32, i32) {
        (self.pipe, self.pid)
    }

    /// Lets the guardian go and waits until it is gone.
    pub(crate) fn dismiss(&self) {
        self.page.disarm();
        let _ = fd::write(self.pipe, b"q");
        while task::wait_child(self.pid, 0) == Err(Errno::EINTR) {}
    }
}

/// The guardian's life. It takes no memory and gives none back.
fn guard(tty: i32, pipe: i32, page: &'static Page, parent: i32, calls: &[libc::sock_filter]) -> ! {
    const PIDFD_OPEN: libc::c_long = 434;
    signal::set_mask(u64::MAX);
    // Out of the session: signals to the terminal's groups and background
    // rules do not reach it.
    let _ = misc::setsid();
    // SAFETY: sets the name of this thread from a string that lives for ever.
    let _ = unsafe { task::prctl(libc::PR_SET_NAME, c"lodger-tty".as_ptr() as usize) };
    // The parent's end also shows where another process holds the socket's far end.
    // SAFETY: makes a descriptor only.
    let pidfd = unsafe { host_sys::raw::call3(PIDFD_OPEN, parent as usize, 0, 0) };
    // Keep three descriptors, at 0, 1 and 2, and close all others: the user's
    // pipes must not stay open because of us.
    let high = |fd| file::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10).unwrap_or(0) as i32;
    let kept = [high(tty), high(pipe), pidfd.map_or(-1, |p| high(p as i32))];
    for (to, from) in kept.iter().enumerate() {
        if *from > 2 {
            let _ = fd::dup3(*from, to as i32, 0);
        } else {
            fd::close(to as i32);
        }
    }
    if fd::close_range(3, u32::MAX).is_err() {
        for n in 3..1024 {
            fd::close(n);
        }
    }
    // Both can only fail where there is less to lose.
    let _ = host_sys::rights::keep_capabilities(0);
    let _ = host_sys::rights::no_new_privileges();
    let _ = host_sys::rights::filter_calls(calls, false);
    let entry = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds = [entry(1), entry(if kept[2] > 2 { 2 } else { -1 })];
    loop {
        if task::getppid() != parent {
            break;
        }
        match event::poll(&mut fds, -1) {
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            _ => break,
        }
    }
    let mut word = [0];
    let dismissed = fds[0].revents & libc::POLLIN != 0 && fd::read(1, &mut word) == Ok(1);
    if !dismissed && page.is_armed() {
        let saved = page.saved();
        // Settings that are not ours any more belong to someone else.
        if tty::get(0).is_ok_and(|now| now == saved.raw()) {
            let _ = tty::set(0, &saved);
        }
    }
    task::exit_group(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_keeps_settings() {
        let page = Page::map().unwrap();
        let mut t = Termios {
            iflag: 1,
            oflag: 2,
            cflag: 0xffff_0000,
            lflag: 4,
            line: 5,
            cc: [0; 19],
        };
        for (i, c) in t.cc.iter_mut().enumerate() {
            *c = i as u8 + 10;
        }
        assert!(!page.disarm());
        page.arm(&t);
        assert_eq!(page.saved(), t);
        assert!(page.is_armed() && page.disarm() && !page.is_armed());
    }

    #[test]
    fn raw_settings_process_nothing() {
        let t = Termios {
            iflag: !0,
            oflag: !0,
            lflag: !0,
            cflag: !0,
            line: 0,
            cc: [9; 19],
        };
        let r = t.raw();
        assert_eq!(r.lflag & (libc::ICANON | libc::ISIG | libc::ECHO), 0);
        assert_eq!(r.oflag & libc::OPOST, 0);
        assert_eq!(r.iflag & (libc::ICRNL | libc::IXON), 0);
        assert_eq!(r.cc[libc::VMIN], 1);
    }
}
