//! Signals.

mod basic;
mod core;
mod job;
mod queue;
mod ready;
mod restart;
mod state;
mod wait;

use self::core::core_bit;
use basic::*;
use job::*;
use queue::*;
use ready::*;
use restart::*;
use state::*;
use wait::*;

tests![
    dispositions,
    async_pipe,
    async_socket,
    async_owner,
    handler_runs,
    masks,
    mask_during_handler,
    nodefer_resethand,
    pending_set,
    standard_not_queued,
    realtime_queue,
    realtime_order,
    sigqueue_value,
    siginfo_sources,
    sigwait_forms,
    sigtimedwait_timeouts,
    sigsuspend_swaps,
    pause_returns,
    kill_targets,
    kill_rights,
    stop_continue,
    stop_discards,
    ignored_stays,
    default_actions,
    fork_inherits,
    alarm_calls,
    itimers,
    raise_abort,
    sigpipe_kinds,
    old_action,
    unblockable,
    ppoll_mask,
    queue_limit,
    sigchld_default,
    altstack_basic,
    altstack_errors,
    altstack_overflow,
    nested_handlers,
    siglongjmp_out,
    sigreturn_registers,
    sigreturn_vector,
    ucontext_change,
    handler_changes_mask,
    flags_restored,
    red_zone,
    many_signals,
    bad_frame,
    exec_in_handler,
    fork_in_handler,
    restart_matrix,
    restart_read_partial,
    nanosleep_remaining,
    eintr_kinds,
    restart_wait,
    stop_restarts,
    sigcont_poll,
    thread_storm,
    core_bit,
];
