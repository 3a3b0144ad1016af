//! Mapping a program into a fresh address space.

use super::elf::{self, Header, Image, Segment};
use super::read_at;
use crate::{Ctx, Kernel};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use hal::{PAGE_SIZE, Prot, USER_END};
use mm::Mm;
use mm::PageCache;
use mm::aspace::{Backing, Fixed, Layout, MapRequest, MmLimits, VmFlags};
use vfs::File;

const PAGE: u64 = PAGE_SIZE as u64;
/// `ADDR_NO_RANDOMIZE` of personality(2).
pub(crate) const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

/// A program file that has been looked at.
pub(crate) struct Program {
    pub file: Arc<File>,
    pub cache: Arc<PageCache>,
    pub header: Header,
    pub image: Image,
}

impl Program {
    /// Reads the headers. [`Errno::ENOEXEC`], [`Errno::EINVAL`].
    pub(crate) fn read(cx: &Ctx, file: Arc<File>, head: &[u8]) -> Result<Program> {
        let machine = cx.kernel().platform.arch().elf_machine();
        let header = Header::parse(head, machine)?;
        let cache = file.inode.page_cache().ok_or(Errno::ENOEXEC)?;
        let mut b = vec![0u8; header.phdr_len()];
        if read_at(&cache, header.phoff, &mut b)? != b.len() {
            return Err(Errno::ENOEXEC);
        }
        let image = Image::parse(&header, &b)?;
        Ok(Program {
            file,
            cache,
            header,
            image,
        })
    }
    /// Path of the interpreter, if there is one.
    pub(crate) fn interp(&self) -> Result<Option<Vec<u8>>> {
        let Some((offset, len)) = self.image.interp else {
            return Ok(None);
        };
        let mut b = vec![0u8; len as usize];
        if read_at(&self.cache, offset, &mut b)? != b.len() {
            return Err(Errno::EIO);
        }
        if b.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        let end = b.iter().position(|c| *c == 0).unwrap_or(b.len());
        b.truncate(end);
        Ok(Some(b))
    }
    /// Maps the segments, moved by `bias`.
    fn map_segments(&self, mm: &Mm, bias: u64, limits: &MmLimits) -> Result {
        for s in &self.image.segments {
            map_segment(mm, self, s, bias, limits)?;
        }
        Ok(())
    }
}

fn flags() -> VmFlags {
    VmFlags::MAYWRITE | VmFlags::MAYEXEC
}

fn map_segment(mm: &Mm, p: &Program, s: &Segment, bias: u64, limits: &MmLimits) -> Result {
    let start = s.start() + bias;
    let skew = s.vaddr - s.start();
    let file_end = s.vaddr + bias + s.filesz;
    let end = s.end() + bias;
    let mut anon_from = start;
    if s.filesz > 0 {
        mm.map(
            MapRequest {
                addr: start,
                len: s.filesz + skew,
                prot: s.prot,
                flags: flags(),
                fixed: Fixed::Replace,
                populate: false,
                backing: Backing::File {
                    cache: p.cache.clone(),
                    offset: s.offset - skew,
                    owner: Some(p.file.clone()),
                },
            },
            limits,
        )?;
        anon_from = file_end.next_multiple_of(PAGE);
    }
    if s.memsz == s.filesz {
        return Ok(());
    }
    // What lies behind the file's part on its last page belongs to the zeroed part.
    let tail = anon_from.min(end) - file_end.min(anon_from.min(end));
    if s.filesz > 0 && tail > 0 && s.prot.contains(Prot::WRITE) {
        mm.clear(file_end, tail as usize)?;
    }
    if end > anon_from {
        mm.map(
            MapRequest {
                addr: anon_from,
                len: end - anon_from,
                prot: s.prot,
                flags: flags(),
                fixed: Fixed::Replace,
                populate: false,
                backing: Backing::Anon,
            },
            limits,
        )?;
    }
    Ok(())
}

/// Finds room for an image and takes away what is between its segments. Returns the bias.
fn place(mm: &Mm, p: &Program, hint: u64, limits: &MmLimits) -> Result<u64> {
    let (lo, hi) = p.image.span();
    let len = hi.checked_sub(lo).ok_or(Errno::EINVAL)?;
    let align = p.image.align;
    let room = MapRequest {
        addr: 0,
        len: len.checked_add(align - PAGE).ok_or(Errno::ENOMEM)?,
        prot: Prot::empty(),
        flags: flags() | VmFlags::NORESERVE,
        fixed: Fixed::No,
        populate: false,
        backing: Backing::Anon,
    };
    let lo_aligned = lo & !(align - 1);
    // The hint is aligned; the image starts as far behind it as its first segment says.
    let base = if hint != 0
        && mm
            .map(
                MapRequest {
                    addr: hint + (lo - lo_aligned),
                    len,
                    fixed: Fixed::NoReplace,
                    ..room.clone()
                },
                limits,
            )
            .is_ok()
    {
        mm.unmap(hint + (lo - lo_aligned), len)?;
        hint
    } else {
        let got = mm.map(room.clone(), limits)?;
        mm.unmap(got, room.len)?;
        let at = got + (lo_aligned.wrapping_sub(lo) & (align - 1));
        at.next_multiple_of(align)
    };
    Ok(base.wrapping_sub(lo_aligned))
}

/// Random numbers for addresses; none if the program or the machine wants it so.
pub(crate) struct Randomizer<'a> {
    kernel: &'a Kernel,
    on: bool,
}

impl<'a> Randomizer<'a> {
    pub(crate) fn new(kernel: &'a Kernel, personality: u32) -> Self {
        let level = kernel
            .sysctl
            .randomize_va_space
            .load(core::sync::atomic::Ordering::Relaxed);
        Randomizer {
            kernel,
            on: personality & ADDR_NO_RANDOMIZE == 0 && level != 0,
        }
    }
    /// A random number of pages below `n`, in bytes.
    pub(crate) fn pages(&self, n: u64) -> u64 {
        if !self.on || n == 0 {
            return 0;
        }
        let mut b = [0u8; 8];
        self.kernel.platform.entropy().fill(&mut b);
        u64::from_le_bytes(b) % n * PAGE
    }
}

/// What the mapped program needs to start.
pub(crate) struct Loaded {
    /// First instruction: the interpreter's, if there is one.
    pub start: u64,
    /// The program's own.
    pub entry: u64,
    pub phdr: u64,
    /// Where the interpreter lies; 0 = none.
    pub base: u64,
    pub layout: Layout,
}

/// Maps the program and its interpreter.
pub(crate) fn load(
    mm: &Mm,
    p: &Program,
    interp: Option<&Program>,
    random: &Randomizer<'_>,
    limits: &MmLimits,
) -> Result<Loaded> {
    let bias = if p.header.dynamic {
        // A third of the way down, so that heap and mappings both have room. An
        // interpreter run by itself goes where mappings go.
        let hint = if p.image.interp.is_some() || interp.is_some() {
            (USER_END / 3 * 2 + random.pages(1 << 28)) & !(p.image.align - 1)
        } else {
            let h = USER_END / 3 * 2 + random.pages(1 << 28);
            h & !(p.image.align - 1)
        };
        place(mm, p, hint, limits)?
    } else {
        0
    };
    p.map_segments(mm, bias, limits)?;
    let entry = p.header.entry.wrapping_add(bias);
    let (mut start, mut base) = (entry, 0);
    if let Some(i) = interp {
        let bias = if i.header.dynamic {
            place(mm, i, 0, limits)?
        } else {
            0
        };
        i.map_segments(mm, bias, limits)?;
        base = bias.wrapping_add(i.image.span().0 & !(i.image.align - 1));
        if !i.header.dynamic {
            base = i.image.span().0;
        }
        start = i.header.entry.wrapping_add(bias);
    }
    let mut layout = Layout {
        start_code: u64::MAX,
        ..Layout::default()
    };
    for s in &p.image.segments {
        let (a, file, mem) = (
            s.vaddr + bias,
            s.vaddr + bias + s.filesz,
            s.vaddr + bias + s.memsz,
        );
        layout.start_code = layout.start_code.min(a);
        if s.prot.contains(Prot::EXEC) {
            layout.end_code = layout.end_code.max(file);
        }
        if a > layout.start_data {
            layout.start_data = a;
        }
        layout.end_data = layout.end_data.max(file);
        layout.start_brk = layout.start_brk.max(mem);
    }
    layout.start_brk = layout.start_brk.next_multiple_of(PAGE) + random.pages(0x2000);
    let phdr = if p.image.phdr == 0 {
        0
    } else {
        p.image.phdr.wrapping_add(bias)
    };
    Ok(Loaded {
        start,
        entry,
        phdr,
        base,
        layout,
    })
}

/// Maps the vDSO and its data; its address, if there is one.
pub(crate) fn map_vdso(kernel: &Kernel, mm: &Mm, limits: &MmLimits) -> Result<Option<u64>> {
    let Some(v) = kernel.vdso() else {
        return Ok(None);
    };
    let pages = v.vvar_pages + v.image_pages;
    let room = MapRequest {
        addr: 0,
        len: pages * PAGE,
        prot: Prot::empty(),
        flags: VmFlags::NORESERVE,
        fixed: Fixed::No,
        populate: false,
        backing: Backing::Anon,
    };
    let at = mm.map(room, limits)?;
    mm.unmap(at, pages * PAGE)?;
    if v.vvar_pages > 0 {
        mm.map_special(at, v.vvar, v.vvar_pages, Prot::READ, "[vvar]")?;
    }
    let image = at + v.vvar_pages * PAGE;
    mm.map_special(
        image,
        v.image,
        v.image_pages,
        Prot::READ | Prot::EXEC,
        "[vdso]",
    )?;
    Ok(Some(image))
}

/// Maps the first piece of the stack, `len` bytes below `top`.
pub(crate) fn map_stack(mm: &Mm, top: u64, len: u64, exec: bool, limits: &MmLimits) -> Result {
    let len = len.next_multiple_of(PAGE);
    let mut prot = Prot::READ | Prot::WRITE;
    if exec {
        prot |= Prot::EXEC;
    }
    mm.map(
        MapRequest {
            addr: top.checked_sub(len).ok_or(Errno::ENOMEM)?,
            len,
            prot,
            flags: flags() | VmFlags::GROWSDOWN,
            fixed: Fixed::NoReplace,
            populate: false,
            backing: Backing::Anon,
        },
        limits,
    )?;
    Ok(())
}

const _: () = assert!(elf::HEADER <= super::script::HEAD);
