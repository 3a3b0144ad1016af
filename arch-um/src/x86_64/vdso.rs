//! The vDSO: a small ELF shared object that the kernel maps into programs, in
//! which libc finds `clock_gettime` and its relatives; vdso(7).
//!
//! The code is below; the ELF image around it is written by [`image`] when the
//! machine starts. It reads the page before it (`clock`), and makes the system call
//! where that page is not valid.

use super::clock::{BASE_TSC, MONO, MULT, REAL, SEQ, VALID};
use core::arch::global_asm;

/// Where the code lies in the image.
const CODE: usize = 0x800;
const PAGE: usize = hal::PAGE_SIZE;

global_asm!(
    r#"
    .pushsection .rodata.lodger_vdso,"a",@progbits
    .p2align 4
    .irp name, begin, clock_gettime, gettimeofday, time, clock_getres, getcpu, end
    .globl lodger_vdso_\name
    .hidden lodger_vdso_\name
    .endr
lodger_vdso_begin:

# In: r9 = offset of a clock in the vvar page. Out: rcx = seconds,
# rax = nanoseconds, edx = 0 if the page is valid. Clobbers r8, r10, r11.
lodger_vdso_read:
    lea r8, [rip + lodger_vdso_begin - {to_vvar}]
    add r9, r8
1:  mov r10d, [r8 + {seq}]
    test r10b, 1
    jnz 5f
    cmp dword ptr [r8 + {valid}], 1
    jne 6f
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [r8 + {base}]
    jae 2f
    xor eax, eax                    # read before the line was drawn anew
2:  mul qword ptr [r8 + {mult}]
    shrd rax, rdx, 32
    mov rcx, [r9]
    add rax, [r9 + 8]
    cmp r10d, [r8 + {seq}]
    jne 1b
    mov rdx, rax
    shr rdx, 33
    jnz 4f
3:  cmp rax, 1000000000
    jb 7f
    sub rax, 1000000000
    inc rcx
    jmp 3b
4:  xor edx, edx
    mov r11d, 1000000000
    div r11
    add rcx, rax
    mov rax, rdx
7:  xor edx, edx
    ret
5:  pause
    jmp 1b
6:  mov edx, 1
    ret

    .p2align 4
lodger_vdso_clock_gettime:
    cmp edi, 7
    ja 3f
    mov ecx, edi
    mov eax, 1
    shl eax, cl
    mov r9d, {real}
    test al, 0x21                   # REALTIME, REALTIME_COARSE
    jnz 1f
    mov r9d, {mono}
    test al, 0xd2                   # MONOTONIC, _RAW, _COARSE, BOOTTIME
    jz 3f
1:  call lodger_vdso_read
    test edx, edx
    jnz 3f
    lea r10d, [rdi - 5]             # the coarse clocks go in steps of a tick
    cmp r10d, 1
    ja 2f
    mov r9, rax
    mov r10d, 4000000
    div r10                         # rdx is 0
    mov rax, r9
    sub rax, rdx
2:  mov [rsi], rcx
    mov [rsi + 8], rax
    xor eax, eax
    ret
3:  mov eax, 228
    syscall
    ret

    .p2align 4
lodger_vdso_gettimeofday:
    test rsi, rsi
    jnz 3f
    test rdi, rdi
    jz 3f
    mov r9d, {real}
    call lodger_vdso_read
    test edx, edx
    jnz 3f
    mov [rdi], rcx
    mov ecx, 1000
    div ecx
    mov [rdi + 8], rax
    xor eax, eax
    ret
3:  mov eax, 96
    syscall
    ret

    .p2align 4
lodger_vdso_time:
    mov r9d, {real}
    call lodger_vdso_read
    test edx, edx
    jnz 3f
    mov rax, rcx
    test rdi, rdi
    jz 1f
    mov [rdi], rax
1:  ret
3:  mov eax, 201
    syscall
    ret

    .p2align 4
lodger_vdso_clock_getres:
    mov eax, 229
    syscall
    ret

    .p2align 4
lodger_vdso_getcpu:
    mov eax, 309
    syscall
    ret
lodger_vdso_end:
    .popsection
"#,
    to_vvar = const CODE + PAGE,
    seq = const SEQ,
    valid = const VALID,
    base = const BASE_TSC,
    mult = const MULT,
    mono = const MONO,
    real = const REAL,
);

unsafe extern "C" {
    static lodger_vdso_begin: u8;
    static lodger_vdso_end: u8;
    static lodger_vdso_clock_gettime: u8;
    static lodger_vdso_gettimeofday: u8;
    static lodger_vdso_time: u8;
    static lodger_vdso_clock_getres: u8;
    static lodger_vdso_getcpu: u8;
}

fn code() -> &'static [u8] {
    let first = &raw const lodger_vdso_begin;
    let len = (&raw const lodger_vdso_end).addr() - first.addr();
    // SAFETY: the assembly above puts exactly these bytes between the labels, read-only.
    unsafe { core::slice::from_raw_parts(first, len) }
}

const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

// Offsets in the image. Checked against the sizes below when it is made.
const PHDRS: usize = 0x40;
const NPHDRS: usize = 3;
const DYNSYM: usize = 0x100;
const DYNSTR: usize = 0x1c0;
const HASH: usize = 0x260;
const VERSYM: usize = 0x2a0;
const VERDEF: usize = 0x2c0;
const NOTE: usize = 0x320;
const DYNAMIC: usize = 0x340;

/// Bytes put together at fixed offsets.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        let end = at + bytes.len();
        let to = &mut self.0[at..end];
        assert!(to.iter().all(|&b| b == 0), "parts overlap");
        to.copy_from_slice(bytes);
        end
    }
    fn u16(&mut self, at: usize, v: usize) -> usize {
        self.put(at, &(v as u16).to_le_bytes())
    }
    fn u32(&mut self, at: usize, v: usize) -> usize {
        self.put(at, &(v as u32).to_le_bytes())
    }
    fn u64(&mut self, at: usize, v: usize) -> usize {
        self.put(at, &(v as u64).to_le_bytes())
    }
}

/// The System V hash of a symbol or version name.
fn hash(name: &str) -> usize {
    name.bytes().fold(0u32, |h, b| {
        let h = (h << 4).wrapping_add(b.into());
        let top = h & 0xf000_0000;
        (h ^ top >> 24) & !top
    }) as usize
}

/// The whole object, one page.
pub(crate) fn image() -> Vec<u8> {
    let offset = |p: *const u8| CODE + (p.addr() - (&raw const lodger_vdso_begin).addr());
    let functions = [
        ("__vdso_clock_gettime", &raw const lodger_vdso_clock_gettime),
        ("__vdso_gettimeofday", &raw const lodger_vdso_gettimeofday),
        ("__vdso_time", &raw const lodger_vdso_time),
        ("__vdso_clock_getres", &raw const lodger_vdso_clock_getres),
        ("__vdso_getcpu", &raw const lodger_vdso_getcpu),
    ]
    .map(|(name, p)| (name, offset(p)));
    let mut m = Image(vec![0; PAGE]);
    header(&mut m);

    // Strings; the first is empty.
    let mut strings = DYNSTR + 1;
    let mut string = |m: &mut Image, s: &str| {
        let at = strings - DYNSTR;
        strings = m.put(strings, s.as_bytes()) + 1;
        at
    };
    let soname = string(&mut m, SONAME);
    let version = string(&mut m, VERSION);

    // Symbols, their versions, and a hash table with one chain.
    let count = functions.len() + 1;
    let mut next = m.u32(HASH, 1);
    next = m.u32(next, count);
    next = m.u32(next, 1);
    for (i, (name, value)) in (1..).zip(functions) {
        const FUNC_GLOBAL: usize = 0x12;
        let at = DYNSYM + 24 * i;
        let name = string(&mut m, name);
        m.u32(at, name);
        m.u16(at + 4, FUNC_GLOBAL);
        m.u16(at + 6, 1);
        m.u64(at + 8, value);
        m.u64(at + 16, 0x10);
        m.u32(next + 4 * i, if i + 1 < count { i + 1 } else { 0 });
        m.u16(VERSYM + 2 * i, 2);
    }
    assert!(DYNSYM + 24 * count <= DYNSTR && strings <= HASH);
    assert!(next + 4 * count <= VERSYM && VERSYM + 2 * count <= VERDEF);

    // Version definitions: the object itself, then LINUX_2.6.
    for (at, flags, index, name, string, next) in [
        (VERDEF, 1, 1, SONAME, soname, 28),
        (VERDEF + 28, 0, 2, VERSION, version, 0),
    ] {
        m.u16(at, 1);
        m.u16(at + 2, flags);
        m.u16(at + 4, index);
        m.u16(at + 6, 1);
        m.u32(at + 8, hash(name));
        m.u32(at + 12, 20);
        m.u32(at + 16, next);
        m.u32(at + 20, string);
        m.u32(at + 24, 0);
    }

    // The note that says which kernel this is: 6.12.0.
    m.u32(NOTE, 6);
    m.u32(NOTE + 4, 4);
    m.put(NOTE + 12, b"Linux");
    m.u32(NOTE + 20, 6 << 16 | 12 << 8);

    let mut at = DYNAMIC;
    for (tag, value) in [
        (14, soname),           // DT_SONAME
        (4, HASH),              // DT_HASH
        (5, DYNSTR),            // DT_STRTAB
        (6, DYNSYM),            // DT_SYMTAB
        (10, strings - DYNSTR), // DT_STRSZ
        (11, 24),               // DT_SYMENT
        (0x6fff_fff0, VERSYM),  // DT_VERSYM
        (0x6fff_fffc, VERDEF),  // DT_VERDEF
        (0x6fff_fffd, 2),       // DT_VERDEFNUM
        (0, 0),                 // DT_NULL
    ] {
        m.u64(at, tag);
        at = m.u64(at + 8, value);
    }
    assert!(at == DYNAMIC + DYNAMIC_LEN && at <= CODE);
    m.put(CODE, code());
    m.0
}

const DYNAMIC_LEN: usize = 10 * 16;

/// ELF and program headers.
fn header(m: &mut Image) {
    // 64-bit, little-endian, version 1.
    m.put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    m.u16(16, 3); // ET_DYN
    m.u16(18, 62); // EM_X86_64
    m.u32(20, 1);
    m.u64(24, CODE);
    m.u64(32, PHDRS);
    m.u16(52, 64);
    m.u16(54, 56);
    m.u16(56, NPHDRS);
    m.u16(58, 64);
    let (load, dynamic, note) = (1, 2, 4);
    let (read, read_exec) = (4, 5);
    for (i, (kind, flags, offset, len, align)) in [
        (load, read_exec, 0, CODE + code().len(), PAGE),
        (dynamic, read, DYNAMIC, DYNAMIC_LEN, 8),
        (note, read, NOTE, 24, 4),
    ]
    .into_iter()
    .enumerate()
    {
        let at = PHDRS + 56 * i;
        m.u32(at, kind);
        m.u32(at + 4, flags);
        for (field, v) in [
            (8, offset),
            (16, offset),
            (24, offset),
            (32, len),
            (40, len),
        ] {
            m.u64(at + field, v);
        }
        m.u64(at + 48, align);
    }
}
