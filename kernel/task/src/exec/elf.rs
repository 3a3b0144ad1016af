//! ELF headers, elf(5). Nothing in them is trusted.

use abi::{Errno, Result};
use alloc::vec::Vec;
use hal::{PAGE_SIZE, Prot, USER_END};

const PAGE: u64 = PAGE_SIZE as u64;
/// Size of the file header.
pub(crate) const HEADER: usize = 64;
/// Size of a program header.
pub(crate) const PHDR: usize = 56;
/// Most bytes of program headers.
const MAX_PHDRS: usize = 64 << 10;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// The file header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Position-independent (ET_DYN).
    pub dynamic: bool,
    pub entry: u64,
    pub phoff: u64,
    pub phnum: u16,
}

impl Header {
    /// From the first bytes of a file. [`Errno::ENOEXEC`].
    pub(crate) fn parse(b: &[u8], machine: u16) -> Result<Header> {
        Self::fields(b, machine).ok_or(Errno::ENOEXEC)
    }
    fn fields(b: &[u8], machine: u16) -> Option<Header> {
        // Magic, 64-bit, little-endian.
        if b.len() < HEADER || b.get(..4)? != b"\x7fELF" || *b.get(4)? != 2 || *b.get(5)? != 1 {
            return None;
        }
        let kind = u16_at(b, 16)?;
        if kind != ET_EXEC && kind != ET_DYN || u16_at(b, 18)? != machine {
            return None;
        }
        let phnum = u16_at(b, 56)?;
        if usize::from(u16_at(b, 54)?) != PHDR
            || phnum == 0
            || usize::from(phnum) * PHDR > MAX_PHDRS
        {
            return None;
        }
        Some(Header {
            dynamic: kind == ET_DYN,
            entry: u64_at(b, 24)?,
            phoff: u64_at(b, 32)?,
            phnum,
        })
    }
    /// Bytes of program headers.
    pub(crate) fn phdr_len(&self) -> usize {
        usize::from(self.phnum) * PHDR
    }
}

/// A PT_LOAD segment, checked: addresses below [`USER_END`], offset and address agree within a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub vaddr: u64,
    pub offset: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub prot: Prot,
}

impl Segment {
    /// First page.
    pub(crate) fn start(&self) -> u64 {
        self.vaddr & !(PAGE - 1)
    }
    /// End of the last page.
    pub(crate) fn end(&self) -> u64 {
        (self.vaddr + self.memsz).next_multiple_of(PAGE)
    }
}

/// What the program headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub segments: Vec<Segment>,
    /// Position and length of the interpreter's path.
    pub interp: Option<(u64, u64)>,
    /// Address of the program headers in memory.
    pub phdr: u64,
    pub exec_stack: bool,
    /// Largest alignment of a segment, at least a page.
    pub align: u64,
}

impl Image {
    /// From the program headers. [`Errno::ENOEXEC`], [`Errno::EINVAL`].
    pub(crate) fn parse(h: &Header, b: &[u8]) -> Result<Image> {
        let mut im = Image {
            align: PAGE,
            ..Image::default()
        };
        let mut phdr = None;
        for p in b.chunks_exact(PHDR).take(usize::from(h.phnum)) {
            let f = |at| u64_at(p, at).ok_or(Errno::ENOEXEC);
            let kind = u32_at(p, 0).ok_or(Errno::ENOEXEC)?;
            let flags = u32_at(p, 4).ok_or(Errno::ENOEXEC)?;
            let (offset, vaddr, filesz, memsz, align) = (f(8)?, f(16)?, f(32)?, f(40)?, f(48)?);
            match kind {
                PT_LOAD => {
                    let s = segment(offset, vaddr, filesz, memsz, flags)?;
                    if memsz == 0 {
                        continue;
                    }
                    if align.is_power_of_two() && align <= 1 << 30 {
                        im.align = im.align.max(align);
                    }
                    // Where the headers come to lie, if this segment holds them.
                    if phdr.is_none() && h.phoff >= offset && h.phoff - offset < filesz {
                        phdr = Some(vaddr.wrapping_add(h.phoff - offset));
                    }
                    im.segments.push(s);
                }
                PT_INTERP if im.interp.is_none() => {
                    if !(2..=abi::io::PATH_MAX as u64).contains(&filesz) {
                        return Err(Errno::ENOEXEC);
                    }
                    im.interp = Some((offset, filesz));
                }
                PT_PHDR => phdr = Some(vaddr),
                PT_GNU_STACK => im.exec_stack = flags & 1 != 0,
                _ => {}
            }
        }
        im.phdr = phdr.unwrap_or(0);
        if im.segments.is_empty() {
            return Err(if h.dynamic {
                Errno::EINVAL
            } else {
                Errno::ENOEXEC
            });
        }
        Ok(im)
    }
    /// First and last page address of all segments.
    pub(crate) fn span(&self) -> (u64, u64) {
        let lo = self.segments.iter().map(Segment::start).min();
        let hi = self.segments.iter().map(Segment::end).max();
        (lo.unwrap_or(0), hi.unwrap_or(0))
    }
}

fn segment(offset: u64, vaddr: u64, filesz: u64, memsz: u64, flags: u32) -> Result<Segment> {
    if filesz > memsz
        || memsz > USER_END
        || vaddr > USER_END
        || vaddr + memsz > USER_END
        || vaddr % PAGE != offset % PAGE
        || offset
            .checked_add(filesz)
            .is_none_or(|e| e > i64::MAX as u64)
    {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::empty();
    if flags & 4 != 0 {
        prot |= Prot::READ;
    }
    if flags & 2 != 0 {
        prot |= Prot::WRITE;
    }
    if flags & 1 != 0 {
        prot |= Prot::EXEC;
    }
    Ok(Segment {
        vaddr,
        offset,
        filesz,
        memsz,
        prot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const MACHINE: u16 = 62;

    fn header(kind: u16, phnum: u16) -> Vec<u8> {
        let mut b = vec![0u8; HEADER];
        b[..6].copy_from_slice(b"\x7fELF\x02\x01");
        b[16..18].copy_from_slice(&kind.to_le_bytes());
        b[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        b[24..32].copy_from_slice(&0x401000u64.to_le_bytes());
        b[32..40].copy_from_slice(&64u64.to_le_bytes());
        b[54..56].copy_from_slice(&(PHDR as u16).to_le_bytes());
        b[56..58].copy_from_slice(&phnum.to_le_bytes());
        b
    }

    fn phdr(kind: u32, flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Vec<u8> {
        let mut b = vec![];
        b.extend(kind.to_le_bytes());
        b.extend(flags.to_le_bytes());
        for v in [offset, vaddr, vaddr, filesz, memsz, 0x1000] {
            b.extend(v.to_le_bytes());
        }
        b
    }

    #[test]
    fn a_good_one() {
        let h = Header::parse(&header(ET_EXEC, 2), MACHINE).unwrap();
        let mut p = phdr(PT_LOAD, 5, 0, 0x400000, 0x1234, 0x1234);
        p.extend(phdr(PT_LOAD, 6, 0x1234, 0x402234, 0x100, 0x5000));
        let im = Image::parse(&h, &p).unwrap();
        assert_eq!(im.span(), (0x400000, 0x408000));
        assert_eq!(im.phdr, 0x400040);
        assert_eq!(im.segments[0].prot, Prot::READ | Prot::EXEC);
    }

    #[test]
    fn bad_ones() {
        let mut b = header(ET_EXEC, 1);
        b[0] = 0;
        assert_eq!(Header::parse(&b, MACHINE), Err(Errno::ENOEXEC));
        assert_eq!(Header::parse(&header(1, 1), MACHINE), Err(Errno::ENOEXEC));
        assert_eq!(Header::parse(&header(2, 0), MACHINE), Err(Errno::ENOEXEC));
        assert_eq!(
            Header::parse(&header(2, 1)[..50], MACHINE),
            Err(Errno::ENOEXEC)
        );
        let h = Header::parse(&header(ET_DYN, 1), MACHINE).unwrap();
        for (p, e) in [
            (phdr(PT_LOAD, 5, 0, 0x400000, 2, 1), Errno::EINVAL),
            (phdr(PT_LOAD, 5, 1, 0x400000, 1, 1), Errno::EINVAL),
            (phdr(PT_LOAD, 5, 0, !0xfff, 1, 1), Errno::EINVAL),
            (
                phdr(PT_LOAD, 5, 0, USER_END - 0x1000, 1, 0x2000),
                Errno::EINVAL,
            ),
            (phdr(PT_INTERP, 4, 0, 0, 1, 1), Errno::ENOEXEC),
            (phdr(PT_INTERP, 4, 0, 0, 1 << 20, 1), Errno::ENOEXEC),
            (phdr(PT_GNU_STACK, 4, 0, 0, 0, 0), Errno::EINVAL),
        ] {
            assert_eq!(Image::parse(&h, &p), Err(e));
        }
    }

    proptest! {
        #[test]
        fn never_panics(mut head in proptest::collection::vec(any::<u8>(), 0..80),
                        body in proptest::collection::vec(any::<u8>(), 0..400),
                        keep in any::<bool>(), kinds in proptest::collection::vec(0u32..8, 8)) {
            if keep && head.len() >= HEADER {
                let good = header(ET_DYN, (body.len() / PHDR).max(1) as u16);
                head[..24].copy_from_slice(&good[..24]);
                head[52..64].copy_from_slice(&good[52..64]);
            }
            if let Ok(h) = Header::parse(&head, MACHINE) {
                let mut body = body;
                for (p, k) in body.chunks_exact_mut(PHDR).zip(kinds) {
                    p[..4].copy_from_slice(&k.to_le_bytes());
                }
                if let Ok(im) = Image::parse(&h, &body) {
                    let (lo, hi) = im.span();
                    prop_assert!(lo < hi && hi <= USER_END + PAGE);
                }
            }
        }
    }
}
