//! execve(2), execveat(2).
//!
//! The new address space is built completely beside the old one; whatever goes
//! wrong while that is done is returned to the caller, whose program goes on.
//! Only then the other threads are ended and the new space takes the old one's place.
//!
//! - [`args`]: argument strings. [`script`]: `#!` lines. [`elf`]: headers. [`load`]: mapping.
//! - [`stack`]: the initial stack. [`commit`]: the point of no return and what changes with it.
//! - [`first`]: the machine's first program.

mod args;
mod commit;
mod elf;
pub(crate) mod first;
mod load;
mod script;
mod stack;

use crate::Ctx;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use args::Strings;
use core::sync::atomic::Ordering;
use hal::{PAGE_SIZE, USER_END};
use load::{Loaded, Program, Randomizer};
use mm::io::SliceSink;
use mm::{Mm, PageCache};
use stack::{Contents, at};
use vfs::File;
use vfs::namei::WalkFlags;

const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;
/// Scripts whose interpreter is a script, and so on.
const MAX_SCRIPTS: u32 = 5;
/// Stack mapped beyond what the arguments need.
const STACK_ROOM: u64 = 128 << 10;

/// Reads up to `buf.len()` bytes; fewer at the end of the file.
pub(crate) fn read_at(cache: &PageCache, pos: u64, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..)
        && !rest.is_empty()
    {
        let Some(at) = pos.checked_add(done as u64) else {
            break;
        };
        let n = cache.read(at, &mut SliceSink::new(rest))?;
        if n == 0 {
            break;
        }
        done += n;
    }
    Ok(done)
}

/// What is to be executed.
struct Request {
    /// The file, opened.
    file: Arc<File>,
    /// Path as given, for the script's argument and AT_EXECFN.
    path: Vec<u8>,
    /// `path` leads nowhere after exec.
    lost: bool,
    argv: Strings,
    envp: Strings,
}

/// execveat(2) with pointers of the guest; execve(2) is `dirfd` = AT_FDCWD, `flags` = 0.
pub fn execveat(
    cx: &Ctx,
    dirfd: i32,
    path: &[u8],
    argv: u64,
    envp: u64,
    flags: u32,
) -> Result<u64> {
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let file = open(cx, dirfd, path, flags)?;
    let limit = cx.process().rlimit(abi::raw::RLIMIT_STACK).cur;
    let mut room = args::room(limit);
    let mm = cx.mm();
    let mut argv = Strings::read(mm, argv, &mut room)?;
    let envp = Strings::read(mm, envp, &mut room)?;
    if argv.len() == 0 {
        argv.push(Vec::new());
    }
    // A file without a path of its own is reached through its descriptor,
    // which an interpreter cannot do once exec has closed it.
    let by_fd = dirfd != crate::ctx::AT_FDCWD && path.first() != Some(&b'/');
    let lost = by_fd && cx.files().cloexec(dirfd)?;
    let name = match path {
        [] => format!("/dev/fd/{dirfd}").into_bytes(),
        [b'/', ..] => path.to_vec(),
        _ if dirfd == crate::ctx::AT_FDCWD => path.to_vec(),
        _ => [format!("/dev/fd/{dirfd}/").as_bytes(), path].concat(),
    };
    exec(
        cx,
        Request {
            file,
            path: name,
            lost,
            argv,
            envp,
        },
    )?;
    Ok(0)
}

/// execve with strings of the kernel (the first program).
pub fn exec_kernel(cx: &Ctx, path: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result {
    let file = open(cx, crate::ctx::AT_FDCWD, path, 0)?;
    exec(
        cx,
        Request {
            file,
            path: path.to_vec(),
            lost: false,
            argv: Strings::from_list(argv)?,
            envp: Strings::from_list(envp)?,
        },
    )
}

fn open(cx: &Ctx, dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<File>> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut walk = WalkFlags::empty();
    if flags & AT_SYMLINK_NOFOLLOW == 0 {
        walk |= WalkFlags::FOLLOW;
    }
    if flags & AT_EMPTY_PATH != 0 {
        walk |= WalkFlags::EMPTY;
    }
    let w = cx.walk_at(dirfd, path)?;
    let place = w.lookup(path, walk)?;
    w.open_exec(&place)
}

/// The first bytes of a file.
fn head(file: &File) -> Result<Vec<u8>> {
    let cache = file.inode.page_cache().ok_or(Errno::EACCES)?;
    let mut b = vec![0u8; script::HEAD];
    let n = read_at(&cache, 0, &mut b)?;
    b.truncate(n);
    Ok(b)
}

fn exec(cx: &Ctx, mut r: Request) -> Result {
    let name = r.path.clone();
    let mut scripts = 0;
    // Set-id bits count for the file that is really run.
    let program = loop {
        let head = head(&r.file)?;
        match script::parse(&head) {
            None => break Program::read(cx, r.file.clone(), &head)?,
            Some(line) => {
                let (interp, arg) = line?;
                if r.lost {
                    return Err(Errno::ENOENT);
                }
                scripts += 1;
                if scripts > MAX_SCRIPTS {
                    return Err(Errno::ELOOP);
                }
                let mut first = vec![interp.clone()];
                first.extend(arg);
                first.push(core::mem::replace(&mut r.path, interp));
                r.argv.replace_first(first);
                r.file = open(cx, crate::ctx::AT_FDCWD, &r.path, 0)?;
            }
        }
    };
    let interp = match program.interp()? {
        None => None,
        Some(path) => {
            let file = open(cx, crate::ctx::AT_FDCWD, &path, 0)?;
            let head = head(&file)?;
            let p = Program::read(cx, file, &head).map_err(|e| match e {
                Errno::ENOEXEC | Errno::EINVAL => Errno::ELIBBAD,
                e => e,
            })?;
            Some(p)
        }
    };
    let creds = commit::Credentials::for_file(cx, &program.file)?;
    let (mm, regs) = build(cx, &r, &program, interp.as_ref(), &creds, &name)?;
    commit::commit(cx, mm, regs, creds, &name)
}

/// First instruction and stack pointer.
pub(crate) struct Start {
    ip: u64,
    sp: u64,
}

/// Makes the new address space with everything in it.
fn build(
    cx: &Ctx,
    r: &Request,
    p: &Program,
    interp: Option<&Program>,
    creds: &commit::Credentials,
    name: &[u8],
) -> Result<(Arc<Mm>, Start)> {
    let kernel = cx.kernel();
    let arch = kernel.platform.arch();
    let limits = cx.mm_limits();
    let personality = cx.task().personality.load(Ordering::Relaxed);
    let random = Randomizer::new(kernel, personality);
    let mm = Mm::new(kernel.platform.engine())?;
    if cx.task().mm().is_some_and(|old| old.keeps_code()) {
        mm.keep_code();
    }
    let mut bytes = [0u8; 16];
    kernel.platform.entropy().fill(&mut bytes);

    let mut contents = Contents {
        argv: &r.argv,
        envp: &r.envp,
        path: name,
        platform: arch.machine().as_bytes(),
        random: bytes,
        auxv: Vec::new(),
    };
    // The stack comes first: the space below it depends on where it is.
    let top = (USER_END - PAGE_SIZE as u64 - random.pages(1 << 13)) & !15;
    let need = contents.size() + 64 * 8;
    let room = limits.stack.max(args::room(0));
    if need > room {
        return Err(Errno::E2BIG);
    }
    let stack_len = need + STACK_ROOM.min(room - need).max(PAGE_SIZE as u64);
    load::map_stack(&mm, top, stack_len, p.image.exec_stack, &limits)?;
    mm.lower_mappings(random.pages(kernel.platform.engine().mapping_spread()));
    let Loaded {
        start,
        entry,
        phdr,
        base,
        mut layout,
    } = load::load(&mm, p, interp, &random, &limits)?;
    let vdso = load::map_vdso(kernel, &mm, &limits)?;

    let (hwcap, hwcap2) = arch.hwcap();
    let c = &creds.new;
    let mut auxv = Vec::with_capacity(24);
    if let Some(v) = vdso {
        auxv.push((at::SYSINFO_EHDR, v));
    }
    auxv.extend([
        (at::MINSIGSTKSZ, arch.min_sigstack() as u64),
        (at::HWCAP, hwcap),
        (at::PAGESZ, PAGE_SIZE as u64),
        (at::CLKTCK, abi::time::USER_HZ),
        (at::PHDR, phdr),
        (at::PHENT, elf::PHDR as u64),
        (at::PHNUM, u64::from(p.header.phnum)),
        (at::BASE, base),
        (at::FLAGS, 0),
        (at::ENTRY, entry),
        (at::UID, u64::from(c.uid)),
        (at::EUID, u64::from(c.euid)),
        (at::GID, u64::from(c.gid)),
        (at::EGID, u64::from(c.egid)),
        (at::SECURE, u64::from(creds.secure)),
        (at::HWCAP2, hwcap2),
        (at::RSEQ_FEATURE_SIZE, crate::rseq::FEATURE_LEN.into()),
        (at::RSEQ_ALIGN, crate::rseq::ALIGN.into()),
    ]);
    contents.auxv = auxv;
    let placed = contents.write(&mm, top)?;
    layout.start_stack = placed.sp;
    layout.arg_start = placed.arg_start;
    layout.arg_end = placed.arg_end;
    layout.env_start = placed.env_start;
    layout.env_end = placed.env_end;
    layout.auxv = placed.auxv;
    mm.set_layout(layout);
    mm.set_exe(Some(p.file.clone()));
    Ok((
        mm,
        Start {
            ip: start,
            sp: placed.sp,
        },
    ))
}
