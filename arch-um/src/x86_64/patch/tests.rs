use super::*;

/// A page of one-byte instructions that `code` ends in.
fn page(code: &[u8]) -> (Vec<u8>, usize) {
    let mut page = vec![0x90; PAGE_SIZE];
    page[1000 - code.len()..1000].copy_from_slice(code);
    (page, 998)
}

/// Where nothing is known but the number of the call; all other registers are 0.
struct Number(u64);

impl Seen for Number {
    fn rip(&self) -> u64 {
        0
    }
    fn register(&self, r: Register) -> Option<u64> {
        match r {
            Register::RCX | Register::R11 => None,
            Register::RAX => Some(self.0),
            _ => Some(0),
        }
    }
    fn memory(&self, _: u64, _: usize) -> Option<u64> {
        None
    }
}

fn plan(code: &[u8], page: usize, at: usize, rax: u64) -> Option<Site> {
    super::plan(code, page, at, &Number(rax))
}

fn i32_at(b: &[u8], at: usize) -> i64 {
    i64::from(i32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]))
}

#[test]
fn a_mov_before_it_is_enough() {
    let (p, at) = page(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    let s = place(plan(&p, 0, at, 39).unwrap(), &[]).unwrap();
    assert_eq!((s.start, s.len), (993, 5));
    assert!((0..9).all(|k| s.inside(993 + k).is_none()));
    let j = s.jump();
    assert_eq!(998 + i32_at(&j, 1), REACH as i64 + i64::from(s.slot));
    let mut t = vec![0xcc; PAGE_SIZE];
    s.write(&p, &mut t);
    let slot = s.slot as usize;
    assert_eq!(t[slot..slot + 5], p[993..998]);
    assert_eq!(REACH as i64 + slot as i64 + 12 + i32_at(&t, slot + 8), 1000);
    assert_eq!(t[slot + 12..slot + 20], LEAVE);
    assert_eq!(s.outside(slot + 3), Some(996));
    assert_eq!(s.outside(slot + 12), Some(998));
    assert_eq!(s.outside(slot + 20), None);
}

#[test]
fn places_inside_a_span_are_no_instructions() {
    // mov edi, ebx; mov esi, eax; xor eax, eax; syscall
    let (p, at) = page(&[0x89, 0xdf, 0x89, 0xc6, 0x31, 0xc0, 0x0f, 0x05]);
    let s = place(plan(&p, 0, at, 0).unwrap(), &[]).unwrap();
    assert_eq!((s.start, s.len), (992, 6));
    let j = s.jump();
    assert!(is_invalid(j[2]) && is_invalid(j[4]));
    assert_eq!(s.inside(994), Some(s.slot as usize + 2));
    assert_eq!(s.inside(996), Some(s.slot as usize + 4));
    assert_eq!((s.inside(995), s.inside(997)), (None, None));
}

#[test]
fn a_short_span_takes_the_call_along() {
    // jmp 0; xor eax, eax; cld; syscall: no three more bytes that could move.
    let (p, at) = page(&[0xeb, 0, 0x31, 0xc0, 0xfc, 0x0f, 0x05]);
    let s = place(plan(&p, 0, at, 0).unwrap(), &[]).unwrap();
    assert_eq!((s.start, s.len, s.syscall()), (995, 3, 998));
    let j = s.jump();
    assert!(is_invalid(j[2]) && is_invalid(j[3]));
    assert_eq!(s.inside(998), Some(s.slot as usize + 3));
    // So does one of two bytes, together with the instruction behind the call.
    let (mut p, at) = page(&[0xeb, 0, 0x31, 0xc0, 0x0f, 0x05]);
    p[1000..1006].copy_from_slice(&[0x48, 0x3d, 0, 0xf0, 0xff, 0xff]);
    let s = place(plan(&p, 0, at, 0).unwrap(), &[]).unwrap();
    assert_eq!((s.start, s.len, s.behind), (996, 2, 6));
    let j = s.jump();
    assert!(is_invalid(j[2]) && is_invalid(j[4]));
    let slot = s.slot as usize;
    assert_eq!(s.way_back(), Some((1000, slot + 17)));
    assert_eq!(
        (s.inside(998), s.inside(1000)),
        (Some(slot + 2), Some(slot + 17))
    );
    assert_eq!(
        (s.outside(slot + 16), s.outside(slot + 17)),
        (Some(998), Some(1000))
    );
    assert_eq!(
        (s.outside(slot + 23), s.outside(slot + 28)),
        (Some(1006), None)
    );
    let mut t = vec![0xcc; PAGE_SIZE];
    s.write(&p, &mut t);
    assert_eq!(t[slot + 17..slot + 23], p[1000..1006]);
    let back = REACH as i64 + slot as i64 + 28 + i32_at(&t, slot + 24);
    assert_eq!((t[slot + 23], back), (0xe9, 1006));
    let (mut p, at) = page(&[0xeb, 0, 0x31, 0xc0, 0x0f, 0x05]);
    p[1000..1002].copy_from_slice(&[0xeb, 0]);
    assert_eq!(plan(&p, 0, at, 0), None);
}

#[test]
fn data_before_a_function_is_no_code() {
    // Behind eight bytes of data at 992: mov edi, ebx; xor eax, eax; syscall. From before, it is cmp eax, imm32.
    let mut p = vec![0x90; PAGE_SIZE];
    p[984..998].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 0x3d, 0x89, 0xdf, 0x31, 0xc0, 0x0f, 5]);
    assert_eq!(plan(&p, 0, 996, 0), None);
    // With the number before the call there is no doubt.
    p[992..999].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    let site = plan(&p, 0, 997, 39);
    assert_eq!(site.map(|s| (s.start, s.len)), Some((992, 5)));
}

#[test]
fn jumps_do_not_overlap() {
    // jmp 0; xor eax, eax; syscall; mov eax, 39; syscall
    let (mut p, at) = page(&[0xeb, 0, 0x31, 0xc0, 0x0f, 0x05]);
    p[1000..1007].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    let first = plan(&p, 0, at, 0).unwrap();
    let second = plan(&p, 0, 1005, 39).unwrap();
    assert_eq!((first.start, second.start), (996, 1000));
    for (a, b) in [(first, second), (second, first)] {
        let a = place(a, &[]).unwrap();
        assert_eq!(place(b, &[a]), None);
    }
}

#[test]
fn zeros_before_a_function_are_no_code() {
    // Decoded from the zeros, "00 b8 27 00 00 00" is one instruction that ends at the call.
    let mut p = vec![0; PAGE_SIZE];
    p[993..1000].copy_from_slice(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05]);
    assert_eq!(
        plan(&p, 0, 998, 39).map(|s| (s.start, s.len)),
        Some((993, 5))
    );
    assert_eq!(plan(&p, 0, 998, 40), None);
    p[992] = 0x41;
    assert_eq!(plan(&p, 0, 998, 39), None);
    p[990..993].copy_from_slice(&[0xc7, 0x44, 0x24]);
    assert_eq!(plan(&p, 0, 998, 39), None);
}

#[test]
fn distances_to_data_are_kept() {
    // xor eax, eax; lea rdi, [rip + 0x1234]; syscall
    let (mut p, at) = (vec![0x90; PAGE_SIZE], 999);
    p[990..1001].copy_from_slice(&[0x31, 0xc0, 0x48, 0x8d, 0x3d, 0x34, 0x12, 0, 0, 0x0f, 0x05]);
    const PAGE: u64 = 0x7000_0000;
    struct Lea;
    impl Seen for Lea {
        fn rip(&self) -> u64 {
            PAGE + 1001
        }
        fn register(&self, r: Register) -> Option<u64> {
            let there = r == Register::RDI;
            Some(if there { PAGE + 999 + 0x1234 } else { 0 })
        }
        fn memory(&self, _: u64, _: usize) -> Option<u64> {
            None
        }
    }
    let s = place(super::plan(&p, 0, at, &Lea).unwrap(), &[]).unwrap();
    assert_eq!((s.start, s.len), (992, 7));
    let mut t = vec![0xcc; PAGE_SIZE];
    s.write(&p, &mut t);
    let slot = s.slot as usize;
    let to = REACH as i64 + slot as i64 + 7 + i32_at(&t, slot + 3);
    assert_eq!(to, 999 + 0x1234);
}

#[test]
fn what_leaves_the_span_is_no_part_of_it() {
    for code in [
        &[0xe8, 1, 2, 0, 0, 0x0f, 0x05][..],
        &[0x0f, 0x05, 0x0f, 0x05, 0x0f, 0x05],
        &[0xf3, 0x48, 0x0f, 0xae, 0xdb, 0x0f, 0x05],
    ] {
        let (p, at) = page(code);
        assert_eq!(plan(&p, 0, at, 39), None, "{code:x?}");
    }
    // Bytes that could be a mov, or the end of a longer instruction.
    let mut p = vec![0x90; PAGE_SIZE];
    p[980..987].copy_from_slice(&[0xb8, 0x0f, 5, 0, 0, 0x0f, 0x05]);
    assert!(plan(&p, 0, 981, 39).is_none());
    // No code before it that tells where instructions start.
    assert_eq!(
        plan(&[0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x05], 0, 5, 39),
        None
    );
}

/// Sections of the file with code: address, bytes.
fn code_of(file: &[u8]) -> Vec<(u64, &[u8])> {
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let (table, n) = (
        u64_at(0x28) as usize,
        usize::from(file[0x3c]) | usize::from(file[0x3d]) << 8,
    );
    (0..n)
        .map(|i| table + i * 64)
        .filter(|&h| u64_at(h + 8) & 4 != 0)
        .map(|h| {
            let (at, len) = (u64_at(h + 24) as usize, u64_at(h + 32) as usize);
            (u64_at(h + 16), &file[at..at + len])
        })
        .collect()
}

/// Every call site of this program's libraries has a plan, and one that agrees with
/// the decoding from the start of its section.
#[test]
fn sites_of_libraries() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut files: Vec<&str> = maps
        .lines()
        .filter_map(|l| l.find('/').map(|i| &l[i..]))
        .filter(|p| p.contains("/libc.so") || p.contains("/ld-"))
        .collect();
    files.dedup();
    assert!(!files.is_empty(), "the program is linked to libc");
    for name in files {
        let file = std::fs::read(name).unwrap();
        let (mut sites, mut planned, mut whole) = (0, 0, 0);
        for (addr, code) in code_of(&file) {
            let mut starts = vec![false; code.len() + 16];
            let mut calls = vec![];
            let mut d = Decoder::with_ip(64, code, addr, DecoderOptions::NONE);
            while d.can_decode() {
                let at = d.position();
                starts[at] = true;
                if d.decode().code() == Code::Syscall {
                    calls.push(at);
                }
            }
            let mut pages = std::collections::BTreeMap::<usize, Vec<Site>>::new();
            for at in calls {
                sites += 1;
                // As the engine sees it: the page and some bytes before.
                let page = (at + addr as usize) / PAGE_SIZE * PAGE_SIZE;
                let page = page.saturating_sub(addr as usize);
                let from = page.saturating_sub(BEFORE);
                let to = (page + PAGE_SIZE + BEHIND).min(code.len());
                let before: Vec<Instruction> = {
                    let first = (at.saturating_sub(60)..at).find(|i| starts[*i]).unwrap();
                    let ip = addr + first as u64;
                    let mut d = Decoder::with_ip(64, &code[first..at], ip, DecoderOptions::NONE);
                    d.iter().collect()
                };
                let seen = evidence::after(&before);
                let Some(s) = super::plan(&code[from..to], page - from, at - from, &seen) else {
                    println!("{name}: no plan at {:#x}", addr as usize + at);
                    continue;
                };
                let list = pages.entry(page).or_default();
                let s = place(s, list).expect("room");
                list.push(s);
                planned += 1;
                whole += usize::from(s.len as usize >= JUMP);
                let end = s.len as usize
                    + if s.behind > 0 {
                        2 + s.behind as usize
                    } else {
                        0
                    };
                for k in 0..=end {
                    let is = s.borders >> k & 1 == 1;
                    assert_eq!(is, starts[page + s.start as usize + k], "{name} {at:#x}");
                }
            }
        }
        println!("{name}: {planned} of {sites} sites, {whole} without the call itself");
        assert!(
            sites > 0 && planned * 100 >= sites * 93,
            "{name}: {planned} of {sites}"
        );
    }
}
