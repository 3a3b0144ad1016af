//! System V shared memory: who is attached.

use crate::prelude::*;

tests![
    attached_counts,
    attached_fork,
    attached_exec,
    attached_parts,
    attached_threads,
    removed_last
];

const PAGE: usize = 4096;

fn segment(pages: usize) -> i32 {
    sys!(shmget(IPC_PRIVATE, pages * PAGE, 0o600)).fd()
}

fn attach(id: i32) -> usize {
    sys!(shmat(id, null(), 0)).v() as usize
}

fn detach(at: usize) -> R {
    sys!(shmdt(at as *const c_void))
}

fn attached(id: i32) -> String {
    let mut d: shmid_ds = zero();
    let r = sys!(shmctl(id, IPC_STAT, &mut d));
    if r.failed() {
        return r.to_string();
    }
    d.shm_nattch.to_string()
}

fn remove(id: i32) -> R {
    sys!(shmctl(id, IPC_RMID, null_mut()))
}

fn attached_counts() {
    let id = segment(2);
    say!("new {}", attached(id));
    let (a, b) = (attach(id), attach(id));
    say!("two {}", attached(id));
    let c = sys!(shmat(id, null(), SHM_RDONLY)).v() as usize;
    say!("three {}", attached(id));
    say!("detach {} {}", detach(b), attached(id));
    say!("again {} {}", detach(b), attached(id));
    say!("detach {} {} {}", detach(a), detach(c), attached(id));
    say!("removed {} {}", remove(id), attached(id));
}

fn attached_fork() {
    let id = segment(1);
    let at = attach(id);
    let _two = attach(id);
    let (up, end) = (Gate::new(), Gate::new());
    let child = fork(|| {
        say!("in the child {}", attached(id));
        say!("it detaches {} {}", detach(at), attached(id));
        up.open();
        end.pass();
        0
    });
    up.pass();
    say!("forked {}", attached(id));
    let other = fork(|| {
        end.pass();
        unsafe { raise(SIGKILL) };
        0
    });
    say!("forked again {}", attached(id));
    end.open();
    end.open();
    say!("{}", { wait(child) });
    wait(other);
    say!("both ended {}", attached(id));
    let st = run(|| {
        say!(
            "in a child's child {}",
            run(|| (attached(id) != "6") as i32)
        );
        0
    });
    say!("{st} {}", attached(id));
    remove(id).v();
}

fn attached_exec() {
    let id = segment(1);
    let at = attach(id);
    let up = pipe2(O_CLOEXEC);
    let end = Gate::new();
    let child = fork(|| {
        sys!(dup2(end.0, 0)).v();
        exec(c"/bin/cat", &["cat"], &[]);
        1
    });
    close(up[1]);
    // The pipe is closed when the new program has begun.
    say!("{:?}", read(up[0], 1));
    say!("after exec {}", attached(id));
    close(end.1);
    unsafe { kill(child, SIGKILL) };
    wait(child);
    say!("ended {}", attached(id));
    // vfork shares the space: nothing is attached twice.
    let p = me();
    let args = [
        p.as_ptr(),
        c"--tool".as_ptr(),
        c"exit".as_ptr(),
        c"3".as_ptr(),
        null(),
    ];
    let env: [*const c_char; 1] = [null()];
    let mut pid = 0;
    let r = sys!(posix_spawn(
        &mut pid,
        p.as_ptr(),
        null(),
        null(),
        args.as_ptr().cast(),
        env.as_ptr().cast()
    ));
    say!("spawn {r} {} {}", wait(pid), attached(id));
    say!("{} {}", detach(at), attached(id));
    remove(id).v();
}

fn attached_parts() {
    let id = segment(8);
    let at = attach(id);
    // A hole makes two attachments of one.
    let hole = at + 3 * PAGE;
    say!(
        "hole {} {}",
        sys!(munmap(hole as *mut c_void, PAGE)),
        attached(id)
    );
    let part = at + 6 * PAGE;
    say!(
        "other rights {} {}",
        sys!(mprotect(part as *mut c_void, PAGE, PROT_READ)),
        attached(id)
    );
    say!("forked {}", run(|| attached(id).parse().unwrap()));
    say!("all detached {} {}", detach(at), attached(id));
    let at = attach(id);
    let moved = sys!(mremap(
        at as *mut c_void,
        8 * PAGE,
        8 * PAGE,
        MREMAP_MAYMOVE | MREMAP_FIXED,
        0x2000_0000_0000u64 as *mut c_void
    ));
    say!("moved {} {}", moved.0 == 0x2000_0000_0000, attached(id));
    say!(
        "over it {} {}",
        sys!(mmap(
            0x2000_0000_0000u64 as *mut c_void,
            8 * PAGE,
            PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            -1,
            0
        ))
        .ok(),
        attached(id)
    );
    remove(id).v();
}

fn attached_threads() {
    let id = segment(1);
    let at = attach(id);
    std::thread::scope(|s| {
        s.spawn(|| say!("in a thread {}", attached(id)));
    });
    let r = std::thread::spawn(move || detach(at)).join().unwrap();
    say!("a thread detaches {r} {}", attached(id));
    remove(id).v();
}

fn removed_last() {
    let id = segment(1);
    let at = attach(id);
    let gate = Gate::new();
    let child = fork(|| {
        gate.pass();
        0
    });
    say!("removed {} {}", remove(id), attached(id));
    say!("usable {}", {
        unsafe { *(at as *mut u8) = 9 };
        unsafe { *(at as *mut u8) }
    });
    say!("detached {} {}", detach(at), attached(id));
    let again = sys!(shmat(id, null(), 0));
    say!("attached again {}", again.ok());
    say!(
        "{}",
        if again.failed() {
            "none".into()
        } else {
            attached(id)
        }
    );
    if !again.failed() {
        detach(again.0 as usize).v();
    }
    gate.open();
    say!("{} {}", wait(child), attached(id));
}
