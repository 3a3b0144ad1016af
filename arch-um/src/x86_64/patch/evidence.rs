//! Whether what precedes a `syscall` has been executed, and is no data: the registers show it.
//!
//! Bytes that decode well may still be a table, or the end of one; only what a program executes may become a
//! jump. A trapped call tells little about how it was reached, but its registers are what the instructions before
//! it have left there.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// What a trapped call has found.
pub(crate) trait Seen {
    /// Where it returns to.
    fn rip(&self) -> u64;
    /// A 64-bit register. `None` for those that a call changes.
    fn register(&self, r: Register) -> Option<u64>;
    /// `len` bytes of memory, at most eight.
    fn memory(&self, addr: u64, len: usize) -> Option<u64>;
}

/// The first of `code`, which ends at the call, from which all has been executed up to there. `moved`: how far the code
/// is from where it has been decoded.
pub(crate) fn first(code: &[Instruction], moved: u64, seen: &dyn Seen) -> Option<usize> {
    let mut factory = InstructionInfoFactory::new();
    // What has been changed behind the one that is looked at: bits by register number.
    let mut changed = 0u32;
    let mut found = None;
    for (i, instruction) in code.iter().enumerate().rev() {
        if instruction.flow_control() != FlowControl::Next {
            break;
        }
        let writes = written(&mut factory, instruction);
        let sure = |r: Register, past: u32| {
            let r = r.full_register();
            let known = r.is_gpr() && past & bit(r) == 0;
            known.then(|| seen.register(r)).flatten()
        };
        let to = instruction.op0_register();
        let shown = sure(to, changed);
        // Its sources are known only if neither it nor what follows changes them.
        let value = result(instruction, moved, seen, &|r| sure(r, changed | writes));
        match (shown, value) {
            (Some(s), Some(v)) if s == v => found = Some(i),
            // This was not executed, or memory has changed since.
            (Some(_), Some(_)) => break,
            _ => {}
        }
        changed |= writes;
    }
    found
}

/// The registers that an instruction changes: bits.
fn written(factory: &mut InstructionInfoFactory, i: &Instruction) -> u32 {
    let used = factory.info(i).used_registers().iter();
    let changed = used.filter(|r| {
        let reads = matches!(r.access(), OpAccess::Read | OpAccess::CondRead);
        !reads && r.register().full_register().is_gpr()
    });
    changed.fold(0, |all, r| all | bit(r.register()))
}

fn bit(r: Register) -> u32 {
    1 << (r.full_register() as u32 - Register::RAX as u32)
}

/// What the instruction writes to its first operand, a register of 32 or 64 bits.
fn result(
    i: &Instruction,
    moved: u64,
    seen: &dyn Seen,
    value: &dyn Fn(Register) -> Option<u64>,
) -> Option<u64> {
    let to = i.op0_register();
    if i.op0_kind() != OpKind::Register || !(to.is_gpr32() || to.is_gpr64()) {
        return None;
    }
    let address = || {
        if i.is_ip_rel_memory_operand() {
            return Some(i.ip_rel_memory_address().wrapping_add(moved));
        }
        i.virtual_address(1, 0, |r, _, _| match r.is_segment_register() {
            // FS and GS have bases that are not asked for.
            true => (!matches!(r, Register::FS | Register::GS)).then_some(0),
            false => value(r).map(|v| if r.is_gpr32() { v & 0xffff_ffff } else { v }),
        })
    };
    let same = i.op1_kind() == OpKind::Register && i.op1_register() == to;
    let v = match i.mnemonic() {
        Mnemonic::Xor | Mnemonic::Sub if same => 0,
        Mnemonic::Lea => address()?,
        Mnemonic::Mov => match i.op1_kind() {
            OpKind::Register if i.op1_register().is_gpr() => value(i.op1_register())?,
            OpKind::Memory => seen.memory(address()?, to.size())?,
            OpKind::Register => return None,
            _ => i.immediate(1),
        },
        _ => return None,
    };
    Some(if to.is_gpr32() { v & 0xffff_ffff } else { v })
}

/// What a call behind `code`, decoded where it is, finds, for tests: each register has had a value of its own before.
#[cfg(test)]
pub(crate) fn after(code: &[Instruction]) -> impl Seen {
    struct File([u64; 16], u64);
    impl Seen for File {
        fn rip(&self) -> u64 {
            self.1
        }
        fn register(&self, r: Register) -> Option<u64> {
            let known = !matches!(r, Register::RCX | Register::R11);
            known.then(|| self.0[bit(r).trailing_zeros() as usize])
        }
        fn memory(&self, addr: u64, len: usize) -> Option<u64> {
            let v = addr.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Some(v & u64::MAX >> (64 - len * 8))
        }
    }
    let end = code.last().map_or(0, Instruction::next_ip);
    let mut file = File(
        core::array::from_fn(|i| 0x1234_5678 * (i as u64 + 1)),
        end + 2,
    );
    let mut factory = InstructionInfoFactory::new();
    for i in code {
        let new = result(i, 0, &file, &|r| {
            Some(file.0[bit(r).trailing_zeros() as usize])
        });
        let writes = written(&mut factory, i);
        for n in (0..16).filter(|n| writes >> n & 1 == 1) {
            file.0[n] = file.0[n].wrapping_mul(77) + 5;
        }
        if let Some(v) = new {
            file.0[bit(i.op0_register()).trailing_zeros() as usize] = v;
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    /// rbx is 5, rdi 5, rsi 7, r8 the address of the memory, which holds 9; all others are 0.
    struct Example;

    /// Where the code is.
    const MOVED: u64 = 0x7000_0000;

    impl Seen for Example {
        fn rip(&self) -> u64 {
            0
        }
        fn register(&self, r: Register) -> Option<u64> {
            match r {
                Register::RCX | Register::R11 => None,
                Register::RBX | Register::RDI => Some(5),
                Register::RSI => Some(7),
                Register::R8 => Some(0x1000),
                Register::R9 => Some(9),
                _ => Some(0),
            }
        }
        fn memory(&self, addr: u64, _: usize) -> Option<u64> {
            (addr == 0x1008).then_some(9)
        }
    }

    fn first_of(bytes: &[u8]) -> Option<usize> {
        let code = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
        let code: Vec<Instruction> = code.into_iter().collect();
        first(&code, MOVED, &Example)
    }

    #[test]
    fn registers_show_what_was_executed() {
        // mov edi, ebx; mov esi, 7
        assert_eq!(first_of(&[0x89, 0xdf, 0xbe, 7, 0, 0, 0]), Some(0));
        // mov edi, ebx; mov esi, 8: the second has not been executed, so neither has the first on the way to it.
        assert_eq!(first_of(&[0x89, 0xdf, 0xbe, 8, 0, 0, 0]), None);
        // mov esi, ebx
        assert_eq!(first_of(&[0x89, 0xde]), None);
        // xor eax, eax; xor edi, edi
        assert_eq!(
            (first_of(&[0x31, 0xc0]), first_of(&[0x31, 0xff])),
            (Some(0), None)
        );
        // mov r9, [r8 + 8]; mov r9, [r8 + 16]
        assert_eq!(first_of(&[0x4d, 0x8b, 0x48, 8]), Some(0));
        assert_eq!(first_of(&[0x4d, 0x8b, 0x48, 16]), None);
        // lea rax, [rip + distance to address 0]; to where it would be if the code were at 0
        for (to, first) in [(0u64, Some(0)), (MOVED, None)] {
            let distance = (to.wrapping_sub(MOVED + 7) as i32).to_le_bytes();
            let code = [&[0x48, 0x8d, 0x05][..], &distance].concat();
            assert_eq!(first_of(&code), first);
        }
    }

    #[test]
    fn what_shows_nothing_is_no_evidence() {
        // adc eax, imm32, as a constant before a function may look; or [rbx + 18], edi; nop; mov ecx, 5
        for code in [
            &[0x15, 0xce, 0xc8, 0xf8, 0x35][..],
            &[0x09, 0x7b, 0x12],
            &[0x90],
            &[0xb9, 5, 0, 0, 0],
        ] {
            assert_eq!(first_of(code), None, "{code:x?}");
        }
        // mov edi, ebx; mov edi, 5: the first one's work is not seen any more.
        assert_eq!(first_of(&[0x89, 0xdf, 0xbf, 5, 0, 0, 0]), Some(1));
        // mov rsi, 7 behind a jump: nothing before that.
        assert_eq!(first_of(&[0x89, 0xdf, 0xeb, 0, 0xbe, 7, 0, 0, 0]), Some(2));
        // mov rax, [rax]: where it was read from is gone.
        assert_eq!(first_of(&[0x48, 0x8b, 0x00]), None);
    }
}
