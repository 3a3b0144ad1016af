//! Rewritten call sites of the engine `kml`: which bytes are one, and what is put there.
//!
//! A site is `mov eax, imm32; syscall` (seven bytes) that has trapped with just that
//! number in rax. Its `mov` becomes a jump of the same five bytes to a trampoline, which
//! does the `mov`, puts the return address into rcx, and jumps to the kernel's entry. The
//! `syscall` stays: whoever jumps to it, or is between the two when the page is
//! exchanged, traps as before. So no thread is ever inside what changes.

use super::kml::REACH;
use hal::{PAGE_SIZE, USER_END};

/// Bytes of a site.
const SITE: usize = 7;
/// Bytes of a trampoline.
pub(crate) const SLOT: usize = 32;

/// Whether `ip` is in a trampoline.
pub(crate) fn is_trampoline(ip: u64) -> bool {
    (USER_END..USER_END + REACH).contains(&ip)
}

/// Where in `page` the site starts whose system call ended at offset `after` with `rax`.
pub(crate) fn site(page: &[u8], after: usize, rax: u64) -> Option<usize> {
    let start = after.checked_sub(SITE)?;
    // What the bytes before show: not the tail of a longer instruction, one with a REX
    // prefix, or one with a displacement of one byte and a constant.
    let before = start.checked_sub(3)?;
    let head = page.get(before..start)?;
    if head[2] & 0xf0 == 0x40
        || [head[0], head[1]]
            .iter()
            .any(|b| [0xc7, 0x81, 0x69, 0xf7].contains(b))
    {
        return None;
    }
    let s = page.get(start..after)?;
    let imm = u32::from_le_bytes([s[1], s[2], s[3], s[4]]);
    (s[0] == 0xb8 && s[5..] == [0x0f, 0x05] && u64::from(imm) == rax).then_some(start)
}

/// The jump from the site at offset `start` to trampoline number `slot` of its page.
pub(crate) fn jump(start: usize, slot: usize) -> [u8; 5] {
    let rel = (REACH as usize + slot * SLOT) as i64 - (start + 5) as i64;
    let r = (rel as i32).to_le_bytes();
    [0xe9, r[0], r[1], r[2], r[3]]
}

/// Trampoline number `slot` for the site at offset `start`; `mov` is its first instruction.
pub(crate) fn trampoline(start: usize, slot: usize, mov: &[u8]) -> [u8; SLOT] {
    let mut code = [0xcc; SLOT];
    code[..5].copy_from_slice(mov);
    // lea rcx, [rip + distance to the instruction behind the site]
    let here = (REACH as usize + slot * SLOT + 12) as i64;
    let rel = (start + SITE) as i64 - here;
    code[5..8].copy_from_slice(&[0x48, 0x8d, 0x0d]);
    code[8..12].copy_from_slice(&(rel as i32).to_le_bytes());
    // jmp gs:[32]
    code[12..20].copy_from_slice(&[0x65, 0xff, 0x24, 0x25, 32, 0, 0, 0]);
    code
}

/// Trampolines of one page.
pub(crate) const SLOTS: usize = PAGE_SIZE / SLOT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pattern_with_its_number_is_a_site() {
        let mut page = vec![0x90; PAGE_SIZE];
        page[100..107].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
        assert_eq!(site(&page, 107, 39), Some(100));
        assert_eq!(site(&page, 107, 40), None);
        assert_eq!(site(&page, 108, 39), None);
        assert_eq!(site(&page, 3, 39), None);
        page[99] = 0x41;
        assert_eq!(site(&page, 107, 39), None);
        page[97..100].copy_from_slice(&[0xc7, 0x44, 0x24]);
        assert_eq!(site(&page, 107, 39), None);
    }

    #[test]
    fn jumps_meet() {
        let j = jump(100, 3);
        let to = 105 + i64::from(i32::from_le_bytes([j[1], j[2], j[3], j[4]]));
        assert_eq!(to, REACH as i64 + 96);
        let t = trampoline(100, 3, &[0xb8, 39, 0, 0, 0]);
        let back = i64::from(i32::from_le_bytes([t[8], t[9], t[10], t[11]]));
        assert_eq!(REACH as i64 + 96 + 12 + back, 107);
    }
}
