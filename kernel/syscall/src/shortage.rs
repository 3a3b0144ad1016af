//! Calls while memory for the kernel itself is short.
//!
//! A guest can make the kernel grow without touching a page of its own: files
//! without contents, pipes, sockets, mappings. So that the heap never runs dry,
//! calls that make such objects fail once neither reclaim nor the OOM killer
//! helps; all others go on, above all those that give memory back.

use abi::raw::*;

/// Whether the call is to fail with ENOMEM. Only asked while [`mm::frame::pressure`].
#[cold]
pub(crate) fn refuses(nr: u64) -> bool {
    u32::try_from(nr).is_ok_and(makes_objects) && !mm::frame::relieve()
}

#[allow(
    non_upper_case_globals,
    reason = "the numbers are named as the exported headers name them"
)]
pub(crate) fn makes_objects(nr: u32) -> bool {
    matches!(
        nr,
        __NR_fork
            | __NR_vfork
            | __NR_clone
            | __NR_clone3
            | __NR_execve
            | __NR_execveat
            | __NR_open
            | __NR_openat
            | __NR_openat2
            | __NR_creat
            | __NR_memfd_create
            | __NR_mkdir
            | __NR_mkdirat
            | __NR_mknod
            | __NR_mknodat
            | __NR_symlink
            | __NR_symlinkat
            | __NR_link
            | __NR_linkat
            | __NR_rename
            | __NR_renameat
            | __NR_renameat2
            | __NR_setxattr
            | __NR_lsetxattr
            | __NR_fsetxattr
            | __NR_mount
            | __NR_pipe
            | __NR_pipe2
            | __NR_socket
            | __NR_socketpair
            | __NR_accept
            | __NR_accept4
            | __NR_sendto
            | __NR_sendmsg
            | __NR_sendmmsg
            | __NR_epoll_create
            | __NR_epoll_create1
            | __NR_epoll_ctl
            | __NR_eventfd
            | __NR_eventfd2
            | __NR_signalfd
            | __NR_signalfd4
            | __NR_timerfd_create
            | __NR_timer_create
            | __NR_inotify_init
            | __NR_inotify_init1
            | __NR_inotify_add_watch
            | __NR_pidfd_open
            | __NR_rt_sigqueueinfo
            | __NR_shmget
            | __NR_shmat
            | __NR_semget
            | __NR_semop
            | __NR_semtimedop
            | __NR_msgget
            | __NR_msgsnd
            | __NR_mmap
            | __NR_mremap
            | __NR_mprotect
            | __NR_stat
            | __NR_lstat
            | __NR_newfstatat
            | __NR_statx
            | __NR_access
            | __NR_faccessat
            | __NR_faccessat2
    )
}
