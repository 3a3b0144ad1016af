//! Extended attributes, xattr(7): by path, by path without following a link, by descriptor.

use crate::args::{BytesOut, Fd, PathPtr, Ptr};
use crate::cx::{self, CWD, mm};
use crate::flags::XattrFlags;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use task::Ctx;
use vfs::namei::WalkFlags;
use vfs::xattr::{self, On, VALUE_MAX};
use vfs::{File, Path};

/// Longest name.
const NAME_MAX: usize = 255;

/// What an attribute belongs to.
enum Target {
    Place(Path),
    Open(Arc<File>),
}

impl Target {
    fn on(&self) -> On<'_> {
        match self {
            Target::Place(p) => On::Path(p),
            Target::Open(f) => On::File(f),
        }
    }
}

fn by_path(cx: &Ctx, path: PathPtr, follow: WalkFlags) -> Result<Target> {
    cx::lookup(cx, CWD, path, follow).map(Target::Place)
}

fn by_fd(cx: &Ctx, fd: Fd) -> Result<Target> {
    cx::file(cx, fd).map(Target::Open)
}

/// Copies a name in. [`Errno::ERANGE`] if empty or too long.
fn name_arg(cx: &Ctx, p: PathPtr) -> Result<Vec<u8>> {
    match mm(cx).read_cstr(p.0, NAME_MAX) {
        Ok(n) if n.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        r => r,
    }
}

fn set(
    cx: &Ctx,
    target: impl FnOnce() -> Result<Target>,
    name: PathPtr,
    value: Ptr,
    size: u64,
    flags: XattrFlags,
) -> Result {
    if flags.beyond(XattrFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let name = name_arg(cx, name)?;
    if size > VALUE_MAX as u64 {
        return Err(Errno::E2BIG);
    }
    let value = mm(cx).get_vec::<u8>(value.0, size as usize)?;
    xattr::set(cx, target()?.on(), &name, &value, flags.0 as u32)
}

/// Copies out what fits exactly; size 0 only asks. [`Errno::ERANGE`].
fn give(cx: &Ctx, data: &[u8], buf: BytesOut, size: u64) -> Result<usize> {
    if size != 0 {
        if data.len() as u64 > size {
            return Err(Errno::ERANGE);
        }
        mm(cx).write(buf.0, data)?;
    }
    Ok(data.len())
}

fn get(cx: &Ctx, t: &Target, name: PathPtr, buf: BytesOut, size: u64) -> Result<usize> {
    let name = name_arg(cx, name)?;
    give(cx, &xattr::get(cx, t.on(), &name)?, buf, size)
}

fn list(cx: &Ctx, t: &Target, buf: BytesOut, size: u64) -> Result<usize> {
    let out = xattr::list(cx, t.on())?;
    if out.len() > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    give(cx, &out, buf, size)
}

fn remove(cx: &Ctx, t: &Target, name: PathPtr) -> Result {
    let name = name_arg(cx, name)?;
    xattr::remove(cx, t.on(), &name)
}

/// Sets an attribute: `setxattr(2)`.
pub fn sys_setxattr(
    cx: &Ctx,
    path: PathPtr,
    name: PathPtr,
    value: Ptr,
    size: u64,
    flags: XattrFlags,
) -> Result {
    let t = || by_path(cx, path, WalkFlags::FOLLOW);
    set(cx, t, name, value, size, flags)
}

/// Sets an attribute of a link: `lsetxattr(2)`.
pub fn sys_lsetxattr(
    cx: &Ctx,
    path: PathPtr,
    name: PathPtr,
    value: Ptr,
    size: u64,
    flags: XattrFlags,
) -> Result {
    let t = || by_path(cx, path, WalkFlags::empty());
    set(cx, t, name, value, size, flags)
}

/// Sets an attribute of an open file: `fsetxattr(2)`.
pub fn sys_fsetxattr(
    cx: &Ctx,
    fd: Fd,
    name: PathPtr,
    value: Ptr,
    size: u64,
    flags: XattrFlags,
) -> Result {
    let t = by_fd(cx, fd)?;
    set(cx, || Ok(t), name, value, size, flags)
}

/// Reads an attribute: `getxattr(2)`.
pub fn sys_getxattr(
    cx: &Ctx,
    path: PathPtr,
    name: PathPtr,
    buf: BytesOut,
    size: u64,
) -> Result<usize> {
    get(cx, &by_path(cx, path, WalkFlags::FOLLOW)?, name, buf, size)
}

/// Reads an attribute of a link: `lgetxattr(2)`.
pub fn sys_lgetxattr(
    cx: &Ctx,
    path: PathPtr,
    name: PathPtr,
    buf: BytesOut,
    size: u64,
) -> Result<usize> {
    get(cx, &by_path(cx, path, WalkFlags::empty())?, name, buf, size)
}

/// Reads an attribute of an open file: `fgetxattr(2)`.
pub fn sys_fgetxattr(cx: &Ctx, fd: Fd, name: PathPtr, buf: BytesOut, size: u64) -> Result<usize> {
    get(cx, &by_fd(cx, fd)?, name, buf, size)
}

/// Names of attributes: `listxattr(2)`.
pub fn sys_listxattr(cx: &Ctx, path: PathPtr, buf: BytesOut, size: u64) -> Result<usize> {
    list(cx, &by_path(cx, path, WalkFlags::FOLLOW)?, buf, size)
}

/// Names of attributes of a link: `llistxattr(2)`.
pub fn sys_llistxattr(cx: &Ctx, path: PathPtr, buf: BytesOut, size: u64) -> Result<usize> {
    list(cx, &by_path(cx, path, WalkFlags::empty())?, buf, size)
}

/// Names of attributes of an open file: `flistxattr(2)`.
pub fn sys_flistxattr(cx: &Ctx, fd: Fd, buf: BytesOut, size: u64) -> Result<usize> {
    list(cx, &by_fd(cx, fd)?, buf, size)
}

/// Removes an attribute: `removexattr(2)`.
pub fn sys_removexattr(cx: &Ctx, path: PathPtr, name: PathPtr) -> Result {
    remove(cx, &by_path(cx, path, WalkFlags::FOLLOW)?, name)
}

/// Removes an attribute of a link: `lremovexattr(2)`.
pub fn sys_lremovexattr(cx: &Ctx, path: PathPtr, name: PathPtr) -> Result {
    remove(cx, &by_path(cx, path, WalkFlags::empty())?, name)
}

/// Removes an attribute of an open file: `fremovexattr(2)`.
pub fn sys_fremovexattr(cx: &Ctx, fd: Fd, name: PathPtr) -> Result {
    remove(cx, &by_fd(cx, fd)?, name)
}
