//! Terminal settings, termios(3), in the kernel's layouts.

use abi::{Errno, Result};
use mm::Mm;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! flags {
    ($($name:ident = $v:literal)*) => { $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: u32 = $v;)* };
}
flags! {
    ISTRIP = 0o40 INLCR = 0o100 IGNCR = 0o200 ICRNL = 0o400 IUCLC = 0o1000 IXON = 0o2000 IXANY = 0o4000
    IMAXBEL = 0o20000 IUTF8 = 0o40000 PARMRK = 0o10
    OPOST = 0o1 OLCUC = 0o2 ONLCR = 0o4 OCRNL = 0o10 ONOCR = 0o20 ONLRET = 0o40 XTABS = 0o14000
    ISIG = 0o1 ICANON = 0o2 ECHO = 0o10 ECHOE = 0o20 ECHOK = 0o40 ECHONL = 0o100 NOFLSH = 0o200
    TOSTOP = 0o400 ECHOCTL = 0o1000 ECHOPRT = 0o2000 ECHOKE = 0o4000 IEXTEN = 0o100000 EXTPROC = 0o200000
}
/// Bits of `c_oflag` that say what becomes of tabs.
pub const TABDLY: u32 = 0o14000;
/// Bits of `c_cflag` with the output speed, and those for the input speed.
const CBAUD: u32 = 0o10017;
const BOTHER: u32 = 0o10000;
const IBSHIFT: u32 = 16;
/// Character size, always CS8 on a pseudo-terminal.
const CSIZE: u32 = 0o60;
const CS8: u32 = 0o60;
const PARENB: u32 = 0o400;
const CREAD: u32 = 0o200;

/// Indices into [`Termios::cc`].
#[expect(missing_docs)]
pub mod cc {
    pub const INTR: usize = 0;
    pub const QUIT: usize = 1;
    pub const ERASE: usize = 2;
    pub const KILL: usize = 3;
    pub const EOF: usize = 4;
    pub const TIME: usize = 5;
    pub const MIN: usize = 6;
    pub const START: usize = 8;
    pub const STOP: usize = 9;
    pub const SUSP: usize = 10;
    pub const EOL: usize = 11;
    pub const REPRINT: usize = 12;
    pub const WERASE: usize = 14;
    pub const LNEXT: usize = 15;
    pub const EOL2: usize = 16;
}

/// `struct termios2` (44 bytes); its first 36 bytes are `struct termios`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
    pub ispeed: u32,
    pub ospeed: u32,
}

/// `struct termio` (18 bytes).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Termio {
    flags: [u16; 4],
    line: u8,
    cc: [u8; 8],
    pad: u8,
}

/// Size of `struct termios`.
const TERMIOS: usize = 36;

/// Speeds by their number in CBAUD.
const SPEEDS: [u32; 16] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
];
const FAST: [u32; 15] = [
    57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

fn speed(bits: u32, other: u32) -> u32 {
    let n = (bits & 0o17) as usize;
    match bits & BOTHER != 0 {
        false => SPEEDS.get(n).copied().unwrap_or(0),
        true if n == 0 => other,
        true => FAST.get(n - 1).copied().unwrap_or(0),
    }
}

impl Default for Termios {
    fn default() -> Self {
        let mut c = [0; 19];
        c[..17].copy_from_slice(&[
            3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0,
        ]);
        Termios {
            iflag: ICRNL | IXON,
            oflag: OPOST | ONLCR,
            // 38400 bits a second.
            cflag: CS8 | CREAD | 0o17,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc: c,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

impl Termios {
    /// From the 36 bytes of `struct termios`.
    pub fn from_old(bytes: &[u8; TERMIOS]) -> Termios {
        let mut t = Termios::default();
        t.as_mut_bytes()[..TERMIOS].copy_from_slice(bytes);
        t.settle();
        t
    }
    /// Brings the speeds in line with `cflag`; keeps what a terminal without wires cannot change.
    fn settle(&mut self) {
        self.cflag = self.cflag & !(CSIZE | PARENB) | CS8 | CREAD;
        self.ospeed = speed(self.cflag & CBAUD, self.ospeed);
        let input = self.cflag >> IBSHIFT & CBAUD;
        self.ispeed = match input {
            0 => self.ospeed,
            i => speed(i, self.ispeed),
        };
        self.line = 0;
    }
    /// Whether `lflag` bits are set.
    pub fn l(&self, bits: u32) -> bool {
        self.lflag & bits != 0
    }
    /// Whether `iflag` bits are set.
    pub fn i(&self, bits: u32) -> bool {
        self.iflag & bits != 0
    }
    /// Whether `oflag` bits are set.
    pub fn o(&self, bits: u32) -> bool {
        self.oflag & bits != 0
    }
    /// Whether `c` is the control character at `i` (0 = disabled).
    pub fn is(&self, i: usize, c: u8) -> bool {
        c != 0 && self.cc.get(i) == Some(&c)
    }

    /// TCGETS.
    pub fn put_old(&self, mm: &Mm, addr: u64) -> Result {
        let b = self.as_bytes();
        mm.write(addr, b.get(..TERMIOS).ok_or(Errno::EINVAL)?)
    }
    /// TCSETS: this with what stands at `addr`.
    pub fn get_old(&self, mm: &Mm, addr: u64) -> Result<Termios> {
        let mut t = *self;
        mm.read(addr, &mut t.as_mut_bytes()[..TERMIOS])?;
        t.settle();
        Ok(t)
    }
    /// TCGETS2.
    pub fn put_new(&self, mm: &Mm, addr: u64) -> Result {
        mm.put(addr, self)
    }
    /// TCSETS2.
    pub fn get_new(&self, mm: &Mm, addr: u64) -> Result<Termios> {
        let mut t: Termios = mm.get(addr)?;
        t.settle();
        Ok(t)
    }
    /// TCGETA.
    pub fn put_termio(&self, mm: &Mm, addr: u64) -> Result {
        let mut t = Termio {
            flags: [
                self.iflag as u16,
                self.oflag as u16,
                self.cflag as u16,
                self.lflag as u16,
            ],
            line: self.line,
            cc: [0; 8],
            pad: 0,
        };
        t.cc.copy_from_slice(&self.cc[..8]);
        mm.put(addr, &t)
    }
    /// TCSETA: the low halves of the flags and eight characters.
    pub fn get_termio(&self, mm: &Mm, addr: u64) -> Result<Termios> {
        let v: Termio = mm.get(addr)?;
        let mut t = *self;
        let words = [&mut t.iflag, &mut t.oflag, &mut t.cflag, &mut t.lflag];
        for (w, low) in words.into_iter().zip(v.flags) {
            *w = *w & 0xffff_0000 | low as u32;
        }
        t.cc[..8].copy_from_slice(&v.cc);
        t.settle();
        Ok(t)
    }
}

const _: () = assert!(size_of::<Termios>() == 44 && size_of::<Termio>() == 18);
