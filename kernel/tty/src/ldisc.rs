//! The line discipline N_TTY, termios(3): a state machine without locks or
//! devices. Input bytes go in, edited lines come out; output bytes go in,
//! processed bytes come out, echoes among them.

use crate::termios::*;
use abi::signal::{SIGINT, SIGQUIT, SIGTSTP};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Most input bytes kept, one less than which a line may have.
const IN_MAX: usize = 4096;
/// Most output bytes kept; writers wait beyond.
pub const OUT_MAX: usize = 32 << 10;
/// Echoes may take so much more.
const ECHO_MAX: usize = OUT_MAX + 4096;

/// A cell ends a line.
const DELIM: u16 = 0x100;
/// ... and is the end-of-file character, which is not part of the line.
const EOF: u16 = 0x200;

/// Control bytes of packet mode, ioctl_tty(2) TIOCPKT.
#[expect(missing_docs)]
pub mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NOSTOP: u8 = 16;
    pub const DOSTOP: u8 = 32;
    pub const IOCTL: u8 = 64;
}

/// State of one terminal.
pub struct Ldisc {
    /// Settings.
    pub termios: Termios,
    /// Input: a byte and its marks.
    cells: VecDeque<u16>,
    /// Cells that readers may have; the rest is the line being edited.
    committed: usize,
    /// The next byte is literal.
    lnext: bool,
    /// Inside the backslashes of ECHOPRT.
    erasing: bool,
    /// Column of the cursor, and where the line being edited began.
    column: usize,
    canon_column: usize,
    /// Output stopped by ^S or TCOOFF.
    pub stopped: bool,
    /// Output, processed.
    pub out: VecDeque<u8>,
    /// Changes for the reader of a pseudo-terminal's master in packet mode.
    pub packet_status: u8,
    /// Counts flushes of `out`.
    pub out_epoch: u32,
}

fn is_control(c: u8) -> bool {
    c < 0x20 || c == 0x7f
}

impl Ldisc {
    /// Nothing typed, nothing written.
    pub fn new(termios: Termios) -> Ldisc {
        Ldisc {
            termios,
            cells: VecDeque::new(),
            committed: 0,
            lnext: false,
            erasing: false,
            column: 0,
            canon_column: 0,
            stopped: false,
            out: VecDeque::new(),
            packet_status: 0,
            out_epoch: 0,
        }
    }
    fn canon(&self) -> bool {
        self.termios.l(ICANON)
    }
    fn continuation(&self, c: u8) -> bool {
        self.termios.i(IUTF8) && c & 0xc0 == 0x80
    }

    // --- input ---

    /// Input bytes that can be taken now. A line without end takes any number; what is too much is lost.
    pub fn room(&self) -> usize {
        let room = (IN_MAX - 1).saturating_sub(self.cells.len());
        if self.canon() && self.committed == 0 {
            room.max(1)
        } else {
            room
        }
    }
    /// One byte arrives. The signal it causes, if any; and what to do before: see `signal_flush`.
    pub fn input(&mut self, byte: u8) -> Option<i32> {
        let t = &self.termios;
        let mut c = byte;
        if t.i(ISTRIP) {
            c &= 0x7f;
        }
        if t.i(IUCLC) && t.l(IEXTEN) {
            c = c.to_ascii_lowercase();
        }
        if t.l(EXTPROC) {
            self.put(c as u16);
            return None;
        }
        if core::mem::take(&mut self.lnext) {
            self.ordinary(c);
            return None;
        }
        if t.i(IXON) {
            if t.is(cc::START, c) {
                self.start();
                return None;
            }
            if t.is(cc::STOP, c) {
                self.stop();
                return None;
            }
        }
        if self.stopped && t.i(IXON) && t.i(IXANY) {
            self.start();
        }
        let t = &self.termios;
        if t.l(ISIG) {
            let signal = if t.is(cc::INTR, c) {
                SIGINT
            } else if t.is(cc::QUIT, c) {
                SIGQUIT
            } else if t.is(cc::SUSP, c) {
                SIGTSTP
            } else {
                0
            };
            if signal != 0 {
                self.signal_flush(c);
                return Some(signal);
            }
        }
        match c {
            b'\r' if t.i(IGNCR) => return None,
            b'\r' if t.i(ICRNL) => c = b'\n',
            b'\n' if t.i(INLCR) => c = b'\r',
            _ => {}
        }
        if self.canon() && self.edit(c) {
            return None;
        }
        self.ordinary(c);
        None
    }
    /// What a signal character does besides the signal.
    fn signal_flush(&mut self, c: u8) {
        if !self.termios.l(NOFLSH) {
            self.flush_input();
            self.flush_output();
        }
        if self.termios.i(IXON) && self.stopped {
            self.start();
        }
        if self.termios.l(ECHO) {
            self.echo(c);
        }
    }
    /// A byte without special meaning.
    fn ordinary(&mut self, c: u8) {
        if self.cells.len() >= IN_MAX - 1 {
            if self.termios.i(IMAXBEL) {
                self.emit(b'\x07');
            }
            return;
        }
        if self.termios.l(ECHO) {
            self.finish_erasing();
            self.mark_line_start();
            if c == b'\n' {
                self.process(b'\n');
            } else {
                self.echo(c);
            }
        }
        if c == 0xff && self.termios.i(PARMRK) {
            self.put(c as u16);
        }
        self.put(c as u16);
    }
    fn mark_line_start(&mut self) {
        if self.cells.len() == self.committed {
            self.canon_column = self.column;
        }
    }
    /// Canonical mode: whether `c` edits or ends the line.
    fn edit(&mut self, c: u8) -> bool {
        let t = &self.termios;
        let ext = t.l(IEXTEN);
        if t.is(cc::ERASE, c) {
            self.erase(Erase::Char);
        } else if t.is(cc::KILL, c) {
            self.erase(Erase::Line);
        } else if ext && t.is(cc::WERASE, c) {
            self.erase(Erase::Word);
        } else if ext && t.is(cc::LNEXT, c) {
            self.lnext = true;
            if t.l(ECHO) {
                self.finish_erasing();
                if self.termios.l(ECHOCTL) {
                    self.mark_line_start();
                    self.emit(b'^');
                    self.emit(b'\x08');
                }
            }
        } else if ext && t.l(ECHO) && t.is(cc::REPRINT, c) {
            self.finish_erasing();
            self.echo(c);
            self.process(b'\n');
            for i in self.committed..self.cells.len() {
                let c = self.cells.get(i).map_or(0, |c| *c as u8);
                self.echo(c);
            }
        } else if c == b'\n' {
            if t.l(ECHO | ECHONL) {
                self.process(b'\n');
            }
            self.end_line(c as u16 | DELIM);
        } else if t.is(cc::EOF, c) {
            self.end_line(DELIM | EOF);
        } else if t.is(cc::EOL, c) || ext && t.is(cc::EOL2, c) {
            if t.l(ECHO) {
                self.mark_line_start();
                self.echo(c);
            }
            self.end_line(c as u16 | DELIM);
        } else {
            return false;
        }
        true
    }
    fn end_line(&mut self, cell: u16) {
        self.cells.push_back(cell);
        self.committed = self.cells.len();
    }
    fn put(&mut self, cell: u16) {
        self.cells.push_back(cell);
        if !self.canon() {
            self.committed = self.cells.len();
        }
    }
    fn finish_erasing(&mut self) {
        if core::mem::take(&mut self.erasing) {
            self.emit(b'/');
        }
    }
    fn erase(&mut self, how: Erase) {
        if self.cells.len() == self.committed {
            return;
        }
        let (echo, all) = (self.termios.l(ECHO), ECHOK | ECHOKE | ECHOE);
        if how == Erase::Line {
            if !echo {
                self.cells.truncate(self.committed);
                return;
            }
            if self.termios.lflag & all != all {
                self.cells.truncate(self.committed);
                self.finish_erasing();
                let kill = self.termios.cc[cc::KILL];
                self.echo(kill);
                if self.termios.l(ECHOK) {
                    self.process(b'\n');
                }
                return;
            }
        }
        let mut seen_word = false;
        while self.cells.len() > self.committed {
            // A whole character of UTF-8.
            let mut from = self.cells.len();
            let mut c;
            loop {
                from -= 1;
                c = self.cells.get(from).map_or(0, |c| *c as u8);
                if !self.continuation(c) || from == self.committed {
                    break;
                }
            }
            if self.continuation(c) {
                break;
            }
            if how == Erase::Word {
                if c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80 {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            let bytes: Vec<u8> = self.cells.iter().skip(from).map(|c| *c as u8).collect();
            self.cells.truncate(from);
            if echo {
                self.echo_erased(how, c, &bytes);
            }
            if how == Erase::Char {
                break;
            }
        }
        if echo && self.cells.len() == self.committed {
            self.finish_erasing();
        }
    }
    fn echo_erased(&mut self, how: Erase, c: u8, bytes: &[u8]) {
        let t = &self.termios;
        if t.l(ECHOPRT) {
            if !core::mem::replace(&mut self.erasing, true) {
                self.emit(b'\\');
            }
            for b in bytes {
                self.echo(*b);
            }
        } else if how == Erase::Char && !t.l(ECHOE) {
            let erase = t.cc[cc::ERASE];
            self.echo(erase);
        } else if c == b'\t' {
            self.erase_tab();
        } else {
            let ctl = t.l(ECHOCTL);
            let width = match (is_control(c), ctl) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..width {
                for b in *b"\x08 \x08" {
                    self.process_raw(b);
                }
            }
        }
    }
    /// Moves the cursor back over a tab: as far as the text before it leaves.
    fn erase_tab(&mut self) {
        let mut width = 0;
        let mut after_tab = false;
        for i in (self.committed..self.cells.len()).rev() {
            let c = self.cells.get(i).map_or(0, |c| *c as u8);
            if c == b'\t' {
                after_tab = true;
                break;
            }
            if is_control(c) {
                if self.termios.l(ECHOCTL) {
                    width += 2;
                }
            } else if !self.continuation(c) {
                width += 1;
            }
        }
        if !after_tab {
            width += self.canon_column;
        }
        for _ in 0..8 - (width & 7) {
            self.process_raw(b'\x08');
        }
    }

    // --- reading ---

    /// Bytes that a read would give without waiting. Canonical: of complete lines.
    pub fn available(&self) -> usize {
        let committed = self.cells.iter().take(self.committed);
        committed.filter(|c| **c & EOF == 0).count()
    }
    /// Whether there is a line (canonical) or at least `min` bytes to read.
    pub fn readable(&self, min: usize) -> bool {
        if self.canon() {
            self.committed > 0
        } else {
            self.cells.len() >= min.max(1)
        }
    }
    /// Takes up to `max` bytes: in canonical mode of one line. Only if [`Ldisc::readable`].
    pub fn take(&mut self, max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let canon = self.canon();
        while self.committed > 0 {
            let Some(cell) = self.cells.front().copied() else {
                break;
            };
            let end_of_file = canon && cell & EOF != 0;
            if out.len() >= max && !(end_of_file && max > 0) {
                break;
            }
            self.cells.pop_front();
            self.committed -= 1;
            if cell & EOF == 0 {
                out.push(cell as u8);
            } else if !canon {
                out.push(0);
            }
            if canon && cell & DELIM != 0 {
                break;
            }
        }
        out
    }
    /// Drops all input.
    pub fn flush_input(&mut self) {
        self.cells.clear();
        self.committed = 0;
        self.lnext = false;
        self.erasing = false;
        self.packet_status |= packet::FLUSHREAD;
    }
    /// Drops all output.
    pub fn flush_output(&mut self) {
        self.out.clear();
        self.out_epoch = self.out_epoch.wrapping_add(1);
        self.packet_status |= packet::FLUSHWRITE;
    }
    /// Stops output.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.packet_status = self.packet_status & !packet::START | packet::STOP;
        }
    }
    /// Lets output go on.
    pub fn start(&mut self) {
        if self.stopped {
            self.stopped = false;
            self.packet_status = self.packet_status & !packet::STOP | packet::START;
        }
    }
    /// Changes the settings.
    pub fn set_termios(&mut self, new: Termios) {
        let old = core::mem::replace(&mut self.termios, new);
        if (old.lflag ^ new.lflag) & ICANON != 0 {
            self.lnext = false;
            self.erasing = false;
            // Raw: everything is readable. Canonical: what is there counts as a line.
            self.committed = self.cells.len();
            if self.canon()
                && let Some(last) = self.cells.back_mut()
            {
                *last |= DELIM;
            }
        }
        let flow = |t: &Termios| t.i(IXON) && t.cc[cc::STOP] == 0x13 && t.cc[cc::START] == 0x11;
        match (flow(&old), flow(&new)) {
            (false, true) => {
                self.packet_status = self.packet_status & !packet::NOSTOP | packet::DOSTOP;
            }
            (true, false) => {
                self.packet_status = self.packet_status & !packet::DOSTOP | packet::NOSTOP;
            }
            _ => {}
        }
        if (old.lflag | new.lflag) & EXTPROC != 0 && old != new {
            self.packet_status |= packet::IOCTL;
        }
        if old.i(IXON) && !new.i(IXON) {
            self.start();
        }
    }

    // --- output ---

    /// Whether a writer may write.
    pub fn writable(&self) -> bool {
        !self.stopped && self.out.len() < OUT_MAX
    }
    /// Takes output bytes; how many (0: stopped or full).
    pub fn write(&mut self, data: &[u8]) -> usize {
        if self.stopped {
            return 0;
        }
        if !self.termios.o(OPOST) {
            let n = data.len().min(OUT_MAX.saturating_sub(self.out.len()));
            self.out.extend(data.iter().take(n));
            return n;
        }
        let mut n = 0;
        for c in data {
            if self.out.len() >= OUT_MAX {
                break;
            }
            self.process(*c);
            n += 1;
        }
        n
    }
    fn emit(&mut self, c: u8) {
        if self.out.len() < ECHO_MAX {
            if !is_control(c) && !self.continuation(c) {
                self.column += 1;
            } else if c == b'\x08' {
                self.column = self.column.saturating_sub(1);
            }
            self.out.push_back(c);
        }
    }
    fn process_raw(&mut self, c: u8) {
        self.emit(c);
    }
    /// Echoes a typed byte.
    fn echo(&mut self, c: u8) {
        if self.termios.l(ECHOCTL) && is_control(c) && c != b'\t' {
            self.emit(b'^');
            self.emit(c ^ 0o100);
        } else {
            self.process(c);
        }
    }
    /// Output processing of one byte.
    fn process(&mut self, c: u8) {
        let t = &self.termios;
        if !t.o(OPOST) {
            self.emit(c);
            return;
        }
        let mut c = c;
        match c {
            b'\n' => {
                if t.o(ONLRET) {
                    self.column = 0;
                }
                if t.o(ONLCR) {
                    self.column = 0;
                    self.canon_column = 0;
                    self.emit(b'\r');
                } else {
                    self.canon_column = self.column;
                }
            }
            b'\r' => {
                if t.o(ONOCR) && self.column == 0 {
                    return;
                }
                if t.o(OCRNL) {
                    c = b'\n';
                    if t.o(ONLRET) {
                        self.column = 0;
                        self.canon_column = 0;
                    }
                } else {
                    self.column = 0;
                    self.canon_column = 0;
                }
            }
            b'\t' => {
                let spaces = 8 - (self.column & 7);
                if t.oflag & TABDLY == XTABS {
                    for _ in 0..spaces {
                        self.emit(b' ');
                    }
                    return;
                }
                self.column += spaces;
            }
            _ if t.o(OLCUC) => c = c.to_ascii_uppercase(),
            _ => {}
        }
        self.emit(c);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Char,
    Word,
    Line,
}
