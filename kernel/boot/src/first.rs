//! pid 1, and the machine's command with its identity, directory and descriptors.

use crate::{BootParams, FAILED, mounts};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use hal::platform::LogLevel;
use task::start::{self, FirstProgram};
use task::wait::{self, WaitFor, WaitOptions};
use task::{Ctx, exit};
use vfs::cred::CapSet;
use vfs::namei::WalkFlags;
use vfs::{Cred, FdTable};

/// Life of pid 1: finishes the tree, starts vCPUs and command, and waits for
/// the command's end, which is the machine's. Orphans are reaped without its doing.
pub(crate) fn init(params: BootParams) {
    let cx = Ctx::current();
    let platform = cx.kernel().platform;
    let status = match bring_up(&cx, params) {
        Ok(pid) => await_end(&cx, pid),
        Err(why) => {
            platform.log(LogLevel::Error, &why);
            FAILED
        }
    };
    // What programs have written reaches the host, whether they closed it or not.
    cx.kernel().mounts().sync_all();
    tty::finish_output(cx.kernel());
    platform.power_off(status)
}

fn bring_up(cx: &Ctx, params: BootParams) -> Result<i32, String> {
    let k = cx.kernel();
    let writable =
        mounts::rest(cx, &params).map_err(|e| format!("cannot mount {}: {}", e.what, e.errno))?;
    start::start_cpus(k);
    let cred = Arc::new(identity(&params));
    let fs = mounts::context(k.mounts());
    fs.set_umask(params.umask);
    let (cwd, required) = (params.cwd, params.cwd_required);
    let program = FirstProgram {
        argv: params.argv,
        envp: params.envp,
        cred,
        fs,
        files: FdTable::new(),
        setup: Box::new(move |cx: &Ctx| set_up(cx, &cwd, required)),
    };
    let pid =
        start::spawn_first(k, program).map_err(|e| format!("cannot start the command: {e}"))?;
    if !writable.is_empty() {
        mounts::write_back_regularly(k, writable)
            .map_err(|e| format!("cannot start the write-back: {e}"))?;
    }
    Ok(pid)
}

/// Wait status of process `pid` once it has ended.
fn await_end(cx: &Ctx, pid: i32) -> i32 {
    loop {
        match wait::wait(cx, WaitFor::Pid(pid), WaitOptions::EXITED) {
            Ok(Some(w)) if w.pid == pid => return w.status,
            // Nobody else may wait for it, so it is there; signals do not matter to pid 1.
            Ok(_) | Err(Errno::ERESTARTSYS | Errno::EINTR) => {}
            Err(_) => return FAILED,
        }
    }
}

/// In the command's process, before it becomes the program. False: it cannot.
fn set_up(cx: &Ctx, cwd: &[u8], required: bool) -> bool {
    if let Err(e) = tty::open_streams(cx) {
        let why = format!("cannot open the standard streams: {e}");
        cx.kernel().platform.log(LogLevel::Error, &why);
        let _ = exit::exit_group(cx, FAILED >> 8);
        return false;
    }
    let dir = cx
        .walk(task::ctx::AT_FDCWD)
        .and_then(|w| w.lookup(cwd, WalkFlags::FOLLOW | WalkFlags::DIRECTORY));
    match dir {
        Ok(dir) => cx.fs().set_cwd(dir),
        Err(e) if required => {
            let dir = String::from_utf8_lossy(cwd);
            let text = format!("--workdir {dir}: cannot change to it: {e}");
            cx.kernel().log(LogLevel::Error, text);
            let _ = exit::exit_group(cx, FAILED >> 8);
            return false;
        }
        Err(e) => {
            let dir = String::from_utf8_lossy(cwd);
            let text = format!("working directory {dir}: {e}; starting in /");
            cx.kernel().log(LogLevel::Warn, text);
        }
    }
    true
}

fn identity(params: &BootParams) -> Cred {
    let (uid, gid) = (params.uid, params.gid);
    let mut c = Cred {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: params.groups.clone(),
        ..Cred::root()
    };
    if uid != 0 {
        c.effective = CapSet(0);
        c.permitted = CapSet(0);
    }
    c
}
