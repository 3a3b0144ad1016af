//! Terminals of the host, ioctl_tty(2).

use crate::raw::{Result, call3};
use core::mem::MaybeUninit;

/// The kernel's `struct termios`, as TCGETS gives it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

impl Termios {
    /// Its 36 bytes.
    pub fn to_bytes(self) -> [u8; 36] {
        let mut b = [0; 36];
        for (i, w) in [self.iflag, self.oflag, self.cflag, self.lflag]
            .into_iter()
            .enumerate()
        {
            b[4 * i..4 * i + 4].copy_from_slice(&w.to_ne_bytes());
        }
        b[16] = self.line;
        b[17..].copy_from_slice(&self.cc);
        b
    }
    /// These settings with every kind of processing switched off: bytes in, bytes out.
    pub fn raw(mut self) -> Termios {
        self.iflag &= !(libc::IGNBRK
            | libc::BRKINT
            | libc::PARMRK
            | libc::INPCK
            | libc::ISTRIP
            | libc::INLCR
            | libc::IGNCR
            | libc::ICRNL
            | libc::IXON);
        self.oflag &= !libc::OPOST;
        self.lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
        self.cflag = (self.cflag & !(libc::CSIZE | libc::PARENB)) | libc::CS8;
        self.cc[libc::VMIN] = 1;
        self.cc[libc::VTIME] = 0;
        self
    }
}

/// TCGETS. `ENOTTY`: not a terminal.
pub fn get(fd: i32) -> Result<Termios> {
    let mut t = MaybeUninit::<Termios>::uninit();
    // SAFETY: writes the whole structure on success.
    unsafe {
        call3(
            libc::SYS_ioctl,
            fd as usize,
            libc::TCGETS as usize,
            t.as_mut_ptr() as usize,
        )?;
        Ok(t.assume_init())
    }
}

/// TCSETS: at once, keeping what has been typed. Usable in signal handlers.
pub fn set(fd: i32, t: &Termios) -> Result {
    // SAFETY: reads the structure.
    unsafe {
        call3(
            libc::SYS_ioctl,
            fd as usize,
            libc::TCSETS as usize,
            &raw const *t as usize,
        )?
    };
    Ok(())
}

/// TIOCGWINSZ: rows, columns, x and y pixels.
pub fn window_size(fd: i32) -> Result<[u16; 4]> {
    let mut w = [0u16; 4];
    // SAFETY: writes 8 bytes.
    unsafe {
        call3(
            libc::SYS_ioctl,
            fd as usize,
            libc::TIOCGWINSZ as usize,
            w.as_mut_ptr() as usize,
        )?
    };
    Ok(w)
}

/// TIOCGPGRP: the foreground process group. `ENOTTY`: not our controlling terminal.
pub fn foreground(fd: i32) -> Result<i32> {
    let mut pgrp = 0i32;
    // SAFETY: writes 4 bytes.
    unsafe {
        call3(
            libc::SYS_ioctl,
            fd as usize,
            libc::TIOCGPGRP as usize,
            &raw mut pgrp as usize,
        )?
    };
    Ok(pgrp)
}

/// TIOCGDEV: the device number of the terminal itself (behind /dev/tty, /dev/console).
pub fn device(fd: i32) -> Result<u32> {
    const TIOCGDEV: usize = 0x8004_5432;
    let mut dev = 0u32;
    // SAFETY: writes 4 bytes.
    unsafe {
        call3(
            libc::SYS_ioctl,
            fd as usize,
            TIOCGDEV,
            &raw mut dev as usize,
        )?
    };
    Ok(dev)
}

/// This process's group.
pub fn process_group() -> i32 {
    // SAFETY: no memory involved; cannot fail for oneself.
    unsafe { call3(libc::SYS_getpgid, 0, 0, 0) }.unwrap_or(0) as i32
}
