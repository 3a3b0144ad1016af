//! Types of system-call arguments: what a register holds and how it reads in a trace.
//!
//! An argument type cuts the 64-bit register to the C type of the man page
//! (the ABI leaves the upper half of an `int` undefined) and knows how
//! `--strace` shows it. Pointers stay numbers here: [`In`] and [`Out`] copy
//! through the address space and give values, never references.

use crate::decode::{Describe, Line};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::marker::PhantomData;
use mm::Mm;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An argument of a system call.
pub trait Arg: Copy {
    /// The kernel fills it: shown after the call.
    const OUT: bool = false;
    /// Takes the register, cut to the C type.
    fn from_reg(v: u64) -> Self;
    /// Appends the trace text of argument `i` of `args`.
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize);
}

macro_rules! int_args {
    ($($t:ty)*) => { $(
        impl Arg for $t {
            fn from_reg(v: u64) -> Self {
                v as $t
            }
            fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
                line.put(format_args!("{}", args[i] as $t));
            }
        }
    )* };
}
int_args! { i32 u32 i64 u64 }

macro_rules! word_args {
    ($($(#[$m:meta])* $name:ident($t:ty) |$line:ident, $v:ident| $show:block)*) => { $(
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub $t);
        impl Arg for $name {
            fn from_reg(v: u64) -> Self {
                $name(v as $t)
            }
            fn show($line: &mut Line<'_>, args: &[u64; 6], i: usize) {
                let $v = args[i] as $t;
                $show
            }
        }
    )* };
}

word_args! {
    /// A descriptor.
    Fd(i32) |line, v| { line.put(format_args!("{v}")) }
    /// A descriptor of a directory, or `AT_FDCWD`.
    DirFd(i32) |line, v| {
        if v == abi::raw::AT_FDCWD {
            line.text("AT_FDCWD")
        } else {
            line.put(format_args!("{v}"))
        }
    }
    /// A path in guest memory.
    PathPtr(u64) |line, v| { line.string(v) }
    /// An address of no further interest.
    Ptr(u64) |line, v| { line.pointer(v) }
    /// A number shown in hexadecimal.
    Hex(u64) |line, v| { line.put(format_args!("{v:#x}")) }
    /// Permission bits.
    Mode(u32) |line, v| { line.put(format_args!("0{v:03o}")) }
    /// A signal number.
    Sig(i32) |line, v| { line.signal(v) }
    /// A user or group id; −1 is "leave".
    Id(u32) |line, v| {
        if v == u32::MAX {
            line.text("-1")
        } else {
            line.put(format_args!("{v}"))
        }
    }
    /// A device number.
    Dev(u32) |line, v| {
        let d = u64::from(v);
        line.put(format_args!("makedev({:#x}, {:#x})", abi::stat::major(d), abi::stat::minor(d)))
    }
    /// A wait status that the kernel writes.
    Unused(u64) |line, v| { line.put(format_args!("{v:#x}")) }
}

impl Id {
    /// `None` for −1.
    pub fn get(self) -> Option<u32> {
        (self.0 != u32::MAX).then_some(self.0)
    }
}

/// Bytes given to the kernel; the next argument is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes(pub u64);

impl Arg for Bytes {
    fn from_reg(v: u64) -> Self {
        Bytes(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let len = args.get(i + 1).copied().unwrap_or(0);
        line.bytes(args[i], len);
    }
}

/// A buffer that the kernel fills; the result is the number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BytesOut(pub u64);

impl Arg for BytesOut {
    const OUT: bool = true;
    fn from_reg(v: u64) -> Self {
        BytesOut(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        match line.result() {
            Ok(n) => line.bytes(args[i], n),
            Err(_) => line.pointer(args[i]),
        }
    }
}

/// I/O vectors given to the kernel; the next argument is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Iov(pub u64);

impl Arg for Iov {
    fn from_reg(v: u64) -> Self {
        Iov(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let n = args.get(i + 1).copied().unwrap_or(0);
        line.iovec(args[i], n, u64::MAX);
    }
}

/// I/O vectors that the kernel fills; the next argument is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IovOut(pub u64);

impl Arg for IovOut {
    const OUT: bool = true;
    fn from_reg(v: u64) -> Self {
        IovOut(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let n = args.get(i + 1).copied().unwrap_or(0);
        match line.result() {
            Ok(got) => line.iovec(args[i], n, got),
            Err(_) => line.pointer(args[i]),
        }
    }
}

/// A NULL-terminated vector of strings (execve).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StrVec(pub u64);

impl Arg for StrVec {
    fn from_reg(v: u64) -> Self {
        StrVec(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        line.string_vec(args[i]);
    }
}

/// A socket address given to the kernel; the next argument is its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SockAddr(pub u64);

impl Arg for SockAddr {
    fn from_reg(v: u64) -> Self {
        SockAddr(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let len = args.get(i + 1).copied().unwrap_or(0);
        line.sockaddr(args[i], len as u32);
    }
}

/// A structure that may cross the boundary.
pub trait Abi: FromBytes + IntoBytes + Immutable + Describe {}
impl<T: FromBytes + IntoBytes + Immutable + Describe> Abi for T {}

/// Pointer to a structure that the kernel reads.
pub struct In<T>(pub u64, PhantomData<fn() -> T>);

/// Pointer to a structure that the kernel writes (and may read before).
pub struct Out<T>(pub u64, PhantomData<fn() -> T>);

macro_rules! pointers {
    ($($name:ident)*) => { $(
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $name<T> {}
        impl<T> $name<T> {
            /// From an address.
            pub const fn at(addr: u64) -> Self {
                $name(addr, PhantomData)
            }
            /// Whether it is NULL.
            pub const fn is_null(self) -> bool {
                self.0 == 0
            }
        }
        impl<T: FromBytes + IntoBytes + Immutable> $name<T> {
            /// Copies the structure in. [`Errno::EFAULT`].
            pub fn get(self, mm: &Mm) -> Result<T> {
                mm.get(self.0)
            }
            /// As `get`; `None` for NULL.
            pub fn get_opt(self, mm: &Mm) -> Result<Option<T>> {
                if self.0 == 0 {
                    Ok(None)
                } else {
                    mm.get(self.0).map(Some)
                }
            }
        }
    )* };
}
pointers! { In Out }

impl<T: FromBytes + IntoBytes + Immutable + Clone> In<T> {
    /// Copies `n` structures in; more than `max` are `too_many`.
    pub fn get_vec(self, mm: &Mm, n: usize, max: usize, too_many: Errno) -> Result<Vec<T>> {
        if n > max {
            return Err(too_many);
        }
        mm.get_vec(self.0, n)
    }
}

impl<T: IntoBytes + Immutable> Out<T> {
    /// Copies the structure out. [`Errno::EFAULT`].
    pub fn put(self, mm: &Mm, v: &T) -> Result {
        mm.put(self.0, v)
    }
    /// As `put`; NULL takes nothing.
    pub fn put_opt(self, mm: &Mm, v: &T) -> Result {
        if self.0 == 0 {
            Ok(())
        } else {
            mm.put(self.0, v)
        }
    }
}

impl<T: Abi> Arg for In<T> {
    fn from_reg(v: u64) -> Self {
        In::at(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        line.structure::<T>(args[i]);
    }
}

impl<T: Abi> Arg for Out<T> {
    const OUT: bool = true;
    fn from_reg(v: u64) -> Self {
        Out::at(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        if line.result().is_ok() {
            line.structure::<T>(args[i]);
        } else {
            line.pointer(args[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_lose_the_upper_half() {
        assert_eq!(Fd::from_reg(0xdead_beef_ffff_ffff), Fd(-1));
        assert_eq!(i32::from_reg(0x1_0000_0003), 3);
        assert_eq!(u32::from_reg(u64::MAX), u32::MAX);
        assert_eq!(DirFd::from_reg(0x0123_4567_ffff_ff9c).0, -100);
        assert_eq!(Mode::from_reg(0xffff_0000_0000_01ff).0, 0o777);
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(u64::from_reg(u64::MAX), u64::MAX);
        assert_eq!(i64::from_reg(u64::MAX), -1);
        assert_eq!(
            Ptr::from_reg(0xffff_8000_0000_0000).0,
            0xffff_8000_0000_0000
        );
    }

    #[test]
    fn minus_one_leaves_an_id() {
        assert_eq!(Id::from_reg(0xffff_ffff).get(), None);
        assert_eq!(Id::from_reg(1000).get(), Some(1000));
    }
}
