"""A kick at each instruction of the way into a kernel and out of it, and of a trampoline.

For the test `kicks_at_each_instruction`: sourced where a thread of a user process of the engine
`kml` has stopped in a system call. Stops that thread at each of these instructions in turn (by a
breakpoint of the CPU, which changes no code), raises an interrupt, and lets it go on with the
signal that tells of it.
"""

import gdb

IRQ_NOTIFY = 8
# Offsets in arch-um's `Block` and `Stay`.
STAY, PENDING = 40, 16


def word(at, kind="long"):
    return int(gdb.parse_and_eval("*(unsigned %s *)%d" % (kind, at)))


def symbol(name):
    return int(gdb.parse_and_eval("(long)&" + name))


def code(start, end):
    arch = gdb.selected_frame().architecture()
    return [i["addr"] for i in arch.disassemble(symbol(start), symbol(end) - 1)]


def instructions(at):
    """From `at` to the next jump."""
    arch = gdb.selected_frame().architecture()
    found = []
    while True:
        i = arch.disassemble(at)[0]
        found.append(at)
        at += i["length"]
        if i["asm"].startswith("jmp"):
            return found


def run_to(at, how):
    gdb.Breakpoint("*%d" % at, type=gdb.BP_HARDWARE_BREAKPOINT, temporary=True)
    gdb.execute(how, to_string=True)
    return int(gdb.parse_and_eval("$pc")) == at


def kick():
    """What to go on with, so that the thread finds an interrupt pending."""
    stay = word(int(gdb.parse_and_eval("$gs_base")) + STAY)
    pending = word(stay + PENDING)
    gdb.execute("set var *(unsigned *)%d = %d" % (pending, word(pending, "int") | IRQ_NOTIFY))
    return "signal SIGURG"


gdb.execute("set language c")
gdb.execute("delete")
entry = code("lodger_kml_entry", "lodger_kml_resume")
way_out = code("lodger_kml_exit_begin", "lodger_kml_frame_exit")
# The program soon does nothing but to enter one site.
behind, same = 0, 0
while same < 10 and run_to(entry[0], "continue"):
    rcx = int(gdb.parse_and_eval("$rcx"))
    same = same + 1 if rcx == behind else 0
    behind = rcx
# That is a `mov` and `syscall`, of 5 and 2 bytes: a jump to the trampoline now.
site = gdb.selected_frame().architecture().disassemble(behind - 7)[0]["asm"]
trampoline = instructions(int(site.split()[1], 16))
places = trampoline + entry + way_out
how = kick()
hit = 0
for place in places * 2:
    hit += run_to(place, how)
    how = kick()
gdb.execute("delete")
print("kicked at %d of %d" % (hit, 2 * len(places)))
