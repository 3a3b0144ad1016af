//! [`hal::Arch`] for x86-64.

use super::regs::*;
use super::{clock, cpuid, fpu, signal, vdso};
use abi::Errno;
use core::fmt::Write;
use hal::arch::{SigReturn, SignalDelivery, UserMem};
use hal::dev::Clock;
use hal::{Arch, PAGE_SIZE, Pfn, UserContext};

const EM_X86_64: u16 = 62;
/// `HWCAP2_FSGSBASE`: programs may use rdfsbase and its relatives.
const HWCAP2_FSGSBASE: u64 = 2;
/// First address that no program of Linux has.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;

/// The instruction set. Implements [`hal::Arch`].
pub struct X86_64 {
    vdso: Vec<u8>,
    vvar: Vec<u8>,
}

impl X86_64 {
    /// Looks at this host's CPU. Lives as long as the process.
    pub fn detect() -> &'static X86_64 {
        clock::detect();
        Box::leak(Box::new(X86_64 {
            vdso: vdso::image(),
            vvar: vec![0; PAGE_SIZE],
        }))
    }
}

impl Arch for X86_64 {
    fn machine(&self) -> &'static str {
        "x86_64"
    }
    fn elf_machine(&self) -> u16 {
        EM_X86_64
    }
    fn hwcap(&self) -> (u64, u64) {
        (cpuid::leaf(1, 0).d.into(), HWCAP2_FSGSBASE)
    }
    fn fp_size(&self) -> usize {
        fpu::host().size
    }
    fn min_sigstack(&self) -> usize {
        signal::max_frame()
    }

    fn start(&self, cx: &mut UserContext, ip: u64, sp: u64) {
        cx.gp = [0; hal::arch::GP_WORDS];
        cx.gp[RIP] = ip;
        cx.gp[RSP] = sp;
        cx.gp[EFLAGS] = FLAGS_FIXED;
        cx.gp[CS] = USER_CS;
        cx.gp[SS] = USER_SS;
        leave_syscall(cx);
        cx.fp.clear();
        cx.home = 0;
    }
    fn restart_syscall(&self, cx: &mut UserContext, nr: u64) {
        // `syscall` and `int 0x80` both have two bytes.
        cx.gp[RIP] = cx.gp[RIP].wrapping_sub(2);
        cx.gp[RAX] = nr;
        leave_syscall(cx);
    }
    fn ip(&self, cx: &UserContext) -> u64 {
        cx.gp[RIP]
    }
    fn sp(&self, cx: &UserContext) -> u64 {
        cx.gp[RSP]
    }
    fn set_ip(&self, cx: &mut UserContext, ip: u64) {
        cx.gp[RIP] = ip;
    }
    fn set_sp(&self, cx: &mut UserContext, sp: u64) {
        cx.gp[RSP] = sp;
    }
    fn set_tls(&self, cx: &mut UserContext, tls: u64) {
        cx.gp[FS_BASE] = clean_base(tls);
    }
    fn arch_prctl(&self, cx: &mut UserContext, code: u64, addr: u64) -> Result<Option<u64>, Errno> {
        let base = match code {
            ARCH_SET_FS | ARCH_GET_FS => FS_BASE,
            ARCH_SET_GS | ARCH_GET_GS => GS_BASE,
            _ => return Err(Errno::EINVAL),
        };
        if code == ARCH_GET_FS || code == ARCH_GET_GS {
            return Ok(Some(cx.gp[base]));
        }
        if addr >= TASK_SIZE {
            return Err(Errno::EPERM);
        }
        cx.gp[base] = addr;
        Ok(None)
    }

    fn push_signal(
        &self,
        cx: &mut UserContext,
        mem: &mut dyn UserMem,
        s: &SignalDelivery,
    ) -> Result<(), Errno> {
        signal::push(cx, mem, s)
    }
    fn pop_signal(&self, cx: &mut UserContext, mem: &mut dyn UserMem) -> Result<SigReturn, Errno> {
        signal::pop(cx, mem)
    }

    fn user_regs(&self, cx: &UserContext) -> Vec<u8> {
        let words = USER_REGS.iter().map(|i| cx.gp[*i]);
        words.flat_map(u64::to_ne_bytes).collect()
    }
    fn set_user_regs(&self, cx: &mut UserContext, regs: &[u8]) -> Result<(), Errno> {
        if regs.len() != USER_REGS.len() * 8 {
            return Err(Errno::EINVAL);
        }
        let mut gp = cx.gp;
        for (i, r) in USER_REGS.into_iter().enumerate() {
            gp[r] = fpu::get_u64(regs, 8 * i);
        }
        if gp[CS] != USER_CS || gp[SS] != USER_SS {
            return Err(Errno::EIO);
        }
        if gp[FS_BASE] >= TASK_SIZE || gp[GS_BASE] >= TASK_SIZE {
            return Err(Errno::EIO);
        }
        gp[EFLAGS] = clean_flags(gp[EFLAGS]);
        cx.gp = gp;
        Ok(())
    }

    fn vdso(&self) -> &[u8] {
        &self.vdso
    }
    fn vvar(&self) -> &[u8] {
        &self.vvar
    }
    fn set_vvar_page(&self, pfn: Pfn) {
        clock::set_page(pfn.as_ptr());
    }
    fn update_vvar(&self, clock: &dyn Clock) {
        clock::update(clock);
    }

    fn cpuinfo(&self, ncpus: u32) -> Vec<u8> {
        let (family, model, stepping) = cpuid::signature();
        let mhz = clock::khz() as f64 / 1000.0;
        let (vendor, brand, flags) = (cpuid::vendor(), cpuid::brand(), cpuid::flags());
        let level = cpuid::leaf(0, 0).a;
        let line = (cpuid::leaf(1, 0).b >> 8 & 255) * 8;
        let cache = cpuid::leaf(0x8000_0006, 0).c >> 16;
        let bits = cpuid::leaf(0x8000_0008, 0).a;
        let (physical, linear) = (bits & 255, bits >> 8 & 255);
        let mut s = String::new();
        for i in 0..ncpus {
            // Writing to a String cannot fail.
            let _ = write!(
                s,
                "processor\t: {i}\n\
                 vendor_id\t: {vendor}\n\
                 cpu family\t: {family}\n\
                 model\t\t: {model}\n\
                 model name\t: {brand}\n\
                 stepping\t: {stepping}\n\
                 cpu MHz\t\t: {mhz:.3}\n\
                 cache size\t: {cache} KB\n\
                 physical id\t: 0\n\
                 siblings\t: {ncpus}\n\
                 core id\t\t: {i}\n\
                 cpu cores\t: {ncpus}\n\
                 apicid\t\t: {i}\n\
                 initial apicid\t: {i}\n\
                 fpu\t\t: yes\n\
                 fpu_exception\t: yes\n\
                 cpuid level\t: {level}\n\
                 wp\t\t: yes\n\
                 flags\t\t: {flags}\n\
                 bugs\t\t:\n\
                 bogomips\t: {bogo:.2}\n\
                 clflush size\t: {line}\n\
                 cache_alignment\t: {line}\n\
                 address sizes\t: {physical} bits physical, {linear} bits virtual\n\
                 power management:\n\n",
                bogo = mhz * 2.0,
            );
        }
        s.into_bytes()
    }
}
