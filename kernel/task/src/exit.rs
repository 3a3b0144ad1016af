//! exit(2), exit_group(2), the end of threads and processes.

/// exit(2): ends the calling thread with exit code `code` (low 8 bits).
pub fn exit_thread(code: i32) -> ! {
    let _ = code;
    unimplemented!()
}

/// exit_group(2): ends the calling process with exit code `code` (low 8 bits).
pub fn exit_group(code: i32) -> ! {
    let _ = code;
    unimplemented!()
}
