//! Memory: mapping, protection, faults, copy-on-write.

mod anon;
mod faults;
mod filemap;
mod moves;

use anon::*;
use faults::*;
use filemap::*;
use moves::*;

use crate::prelude::*;

pub const PAGE: usize = 4096;
pub const RW: i32 = PROT_READ | PROT_WRITE;
pub const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

/// Maps or gives the errno; addresses are never printed.
pub fn map(addr: usize, len: usize, prot: i32, flags: i32, fd: i32, off: i64) -> R {
    sys!(mmap(addr as *mut _, len, prot, flags, fd, off))
}

/// Anonymous private memory.
pub fn anon_pages(pages: usize) -> *mut u8 {
    map(0, pages * PAGE, RW, ANON, -1, 0).v() as *mut u8
}

pub fn peek(p: *mut u8, at: usize) -> u8 {
    unsafe { p.add(at).read_volatile() }
}

pub fn poke(p: *mut u8, at: usize, v: u8) {
    unsafe { p.add(at).write_volatile(v) }
}

pub fn prot(p: *mut u8, pages: usize, pr: i32) -> R {
    sys!(mprotect(p.cast(), pages * PAGE, pr))
}

/// How touching ends: `read`, `write` or `exec` in a child.
pub fn touch_read(p: *mut u8) -> String {
    run(|| {
        peek(p, 0);
        0
    })
    .to_string()
}

pub fn touch_write(p: *mut u8) -> String {
    run(|| {
        poke(p, 0, 1);
        0
    })
    .to_string()
}

tests![
    anon_zero,
    anon_errors,
    fixed_replaces,
    fixed_noreplace,
    hints,
    munmap_parts,
    mprotect_matrix,
    mprotect_errors,
    mremap_grow,
    mremap_move,
    mremap_fixed,
    mremap_errors,
    madvise_dontneed,
    madvise_kinds,
    brk_moves,
    mincore_pages,
    mlock_calls,
    large_mapping,
    many_mappings,
    stack_growth,
    growsdown,
    shared_anon_fork,
    cow_both_sides,
    cow_chain,
    cow_by_kernel,
    fork_large,
    pipe_from_fresh_pages,
    wipe_on_fork,
    dont_fork,
    file_private,
    file_shared,
    file_shared_fork,
    file_partial_page,
    file_sigbus,
    file_truncate_mapped,
    file_rights,
    file_errors,
    file_offset,
    file_closed_and_unlinked,
    file_exec,
    msync_calls,
    shared_writes_two_maps,
    dev_zero,
    proc_maps,
    segv_codes,
    sigbus_code,
    fault_in_syscall,
    exec_code,
    far_code,
    prot_none_guard,
    recover_by_handler,
    process_vm_calls,
    rlimit_as,
    thread_stacks,
    mprotect_race,
    copies_into_vanishing_pages,
    copies_after_fork,
    fault_threads,
    populate_and_big,
    mremap_dontunmap,
    mremap_old_length_0,
    mremap_parts,
    mremap_file,
    mremap_shares_after_fork,
    madvise_remove,
    madvise_private_file,
    madvise_ranges,
];
