//! A made-up instruction set.

use abi::{Errno, SigSet, SigStack};
use hal::UserContext;
use hal::arch::{Arch, NUMBER, SigReturn, SignalDelivery, UserMem};

/// Word of [`UserContext::gp`]: instruction pointer.
pub const IP: usize = 8;
/// Stack pointer.
pub const SP: usize = 9;
/// Thread pointer.
pub const TLS: usize = 10;

/// Registers are the words above; there is no vector state.
pub struct FakeArch;

impl Arch for FakeArch {
    fn machine(&self) -> &'static str {
        "fake"
    }
    fn elf_machine(&self) -> u16 {
        62
    }
    fn hwcap(&self) -> (u64, u64) {
        (0, 0)
    }
    fn fp_size(&self) -> usize {
        0
    }
    fn min_sigstack(&self) -> usize {
        2048
    }
    fn start(&self, cx: &mut UserContext, ip: u64, sp: u64) {
        cx.gp = [0; hal::arch::GP_WORDS];
        cx.gp[IP] = ip;
        cx.gp[SP] = sp;
    }
    fn restart_syscall(&self, cx: &mut UserContext, nr: u64) {
        cx.gp[NUMBER] = nr;
        cx.gp[IP] = cx.gp[IP].wrapping_sub(2);
    }
    fn ip(&self, cx: &UserContext) -> u64 {
        cx.gp[IP]
    }
    fn sp(&self, cx: &UserContext) -> u64 {
        cx.gp[SP]
    }
    fn set_ip(&self, cx: &mut UserContext, ip: u64) {
        cx.gp[IP] = ip;
    }
    fn set_sp(&self, cx: &mut UserContext, sp: u64) {
        cx.gp[SP] = sp;
    }
    fn set_tls(&self, cx: &mut UserContext, tls: u64) {
        cx.gp[TLS] = tls;
    }
    fn arch_prctl(
        &self,
        _cx: &mut UserContext,
        _code: u64,
        _addr: u64,
    ) -> Result<Option<u64>, Errno> {
        Err(Errno::EINVAL)
    }
    fn push_signal(
        &self,
        cx: &mut UserContext,
        mem: &mut dyn UserMem,
        s: &SignalDelivery,
    ) -> Result<(), Errno> {
        let sp = cx.gp[SP].wrapping_sub(16) & !15;
        let mask: u64 = s.mask.0;
        mem.write(sp, &cx.gp[IP].to_le_bytes())?;
        mem.write(sp + 8, &mask.to_le_bytes())?;
        cx.gp[SP] = sp;
        Ok(())
    }
    fn pop_signal(&self, cx: &mut UserContext, mem: &mut dyn UserMem) -> Result<SigReturn, Errno> {
        let mut w = [0; 8];
        mem.read(cx.gp[SP], &mut w)?;
        cx.gp[IP] = u64::from_le_bytes(w);
        mem.read(cx.gp[SP] + 8, &mut w)?;
        cx.gp[SP] += 16;
        Ok(SigReturn {
            mask: SigSet(u64::from_le_bytes(w)),
            altstack: SigStack::default(),
        })
    }
    fn user_regs(&self, cx: &UserContext) -> Vec<u8> {
        cx.gp.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
    fn set_user_regs(&self, _cx: &mut UserContext, _regs: &[u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
    fn vdso(&self) -> &[u8] {
        &[]
    }
    fn vvar(&self) -> &[u8] {
        &[]
    }
    fn cpuinfo(&self, ncpus: u32) -> Vec<u8> {
        format!("processors\t: {ncpus}\n").into_bytes()
    }
}
