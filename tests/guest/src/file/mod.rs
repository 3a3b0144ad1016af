//! Regular files: opening, reading and writing, positions, descriptors.

mod descriptor;
mod errors;
mod meta;
mod open;
mod rw;

use descriptor::*;
use errors::*;
use meta::*;
use open::*;
use rw::*;

tests![
    open_missing,
    open_create,
    no_descriptor_left,
    open_excl,
    open_trunc,
    open_directory,
    open_nofollow,
    open_path,
    open_tmpfile,
    open_names,
    open_modes,
    openat_base,
    openat2_resolve,
    read_write,
    short_reads,
    pread_pwrite,
    vectored,
    preadv2_flags,
    lseek_basic,
    lseek_hole,
    append,
    append_shared,
    truncate_grow,
    truncate_errors,
    sparse,
    big_offsets,
    dup_shares,
    dup_variants,
    fcntl_dup,
    fcntl_flags,
    close_range_forms,
    cloexec,
    fallocate_modes,
    fsync_kinds,
    copy_range,
    ebadf_table,
    efault_table,
    einval_table,
    write_readonly,
    statx_fields,
    fstatat_flags,
    utimens,
    access_modes,
    umask_modes,
    unlinked_open,
    fd_links,
    fd_limit,
    partial_fault,
    large_io,
    file_size_limit,
    concurrent_append,
    fadvise_readahead,
    mknod_kinds,
];
