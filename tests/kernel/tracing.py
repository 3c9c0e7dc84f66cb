"""Runs inside a lab node: kills a child between two of its system calls. x86-64 only, as the lab is.

Only system calls that leave a trace outside the process are counted: writes to files, renames, and netlink
messages that are no questions. A kill anywhere between two of them leaves the same state behind. A seccomp(2)
filter stops the child for its tracer (ptrace(2)) at those alone: a stop at every call would take minutes in all.
"""

import ctypes
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

_TRACEME, _CONT, _GETREGS, _SETOPTIONS = 0, 7, 12, 0x4200
_OPTIONS: Final = 0x8 | 0x80 | 0x100000  # PTRACE_O_TRACECLONE, TRACESECCOMP, EXITKILL
_WALL: Final = 0x40000000
_SECCOMP_STOP: Final = signal.SIGTRAP | 7 << 8  # PTRACE_EVENT_SECCOMP: the system call has not been made yet
_REGISTERS: Final = struct.Struct("=27Q")  # user_regs_struct: rdx is 12, rsi 13, rdi 14, orig_rax 15

_WRITE, _PWRITE, _SENDTO, _SENDMSG, _RENAME, _MKDIR, _UNLINK = 1, 18, 44, 46, 82, 83, 87
_TRUNCATE, _RENAMEAT, _UNLINKAT, _RENAMEAT2, _OPENAT = 77, 264, 263, 316, 257
_ALWAYS: Final = frozenset({_RENAME, _MKDIR, _UNLINK, _TRUNCATE, _RENAMEAT, _UNLINKAT, _RENAMEAT2})
_CREATES: Final = os.O_CREAT | os.O_TRUNC
_GENERIC: Final = 16  # NETLINK_GENERIC; its message type 16 is the controller, which only answers questions
_QUESTIONS: Final = frozenset({4, 8, 11, 13, 15})  # IPVS_CMD_GET_*

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]

# linux/filter.h, over struct seccomp_data
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_THIRD_ARGUMENT: Final = 16 + 2 * 8
_NO_NEW_PRIVILEGES, _SECCOMP = 38, 22


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x}: {os.strerror(number)}")
    return result


def run(life: Callable[[], object]) -> None:
    """Run something in a child to its end. Raises RuntimeError when it fails; its traceback is on stderr."""
    pid = _fork(life, traced=False)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"the child ended with {os.waitstatus_to_exitcode(status)}")


def killed_at(life: Callable[[], object], number: int) -> str:
    """Run something in a child and kill it just before its `number`-th (from 1) system call that counts.

    Returns what the call was, "" when the child came to its end before. Raises RuntimeError when it failed.
    """
    child = _fork(life, traced=True)
    os.waitpid(child, _WALL)
    _ptrace(_SETOPTIONS, child, 0, _OPTIONS)
    _ptrace(_CONT, child)
    count, what, code = 0, "", 0
    while True:
        try:
            pid, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            break
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
            continue
        if status >> 8 == _SECCOMP_STOP and not what and (found := _counted(child, pid)):
            count += 1
            if count == number:
                what = found
                os.kill(child, signal.SIGKILL)
                continue
        stopped = os.WSTOPSIG(status)
        passed = 0 if stopped in (signal.SIGTRAP, signal.SIGSTOP) else stopped
        try:
            _ptrace(_CONT, pid, 0, passed)
        except ProcessLookupError:
            continue  # killed meanwhile
    if code and not what:
        raise RuntimeError(f"the child ended with {code}")
    return what


def _fork(life: Callable[[], object], *, traced: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if traced:
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            _filter()
        life()
        code = 0
    except BaseException:  # noqa: BLE001 - told and turned into the exit code: a fork must never return
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _filter() -> None:
    """Have the kernel stop this process and its threads for the tracer at the calls that may count."""
    stop, allow, trace = [], (_RETURN, 0, 0, 0x7FFF0000), (_RETURN, 0, 0, 0x7FF00000)  # SECCOMP_RET_ALLOW, _TRACE
    for number in sorted({*_ALWAYS, _WRITE, _PWRITE, _SENDTO, _SENDMSG}):
        stop += [(_EQUAL, 0, 1, number), trace]
    stop += [(_EQUAL, 0, 3, _OPENAT), (_LOAD, 0, 0, _THIRD_ARGUMENT), (_ANY_BIT, 0, 1, _CREATES), trace, allow]
    program = [(_LOAD, 0, 0, 0), *stop]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxQ", len(program), ctypes.addressof(code)))
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or _libc.prctl(_SECCOMP, 2, ctypes.addressof(header), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _counted(process: int, thread: int) -> str:
    """Return in words what system call a thread is about to make; "" at an exit, or when it does not count."""
    raw = ctypes.create_string_buffer(_REGISTERS.size)
    _ptrace(_GETREGS, thread, 0, ctypes.addressof(raw))
    registers = _REGISTERS.unpack(raw.raw)
    number, arguments = registers[15], (registers[14], registers[13], registers[12])
    if number in _ALWAYS or (number == _OPENAT and arguments[2] & _CREATES):
        return f"system call {number}"
    if number not in (_WRITE, _PWRITE, _SENDTO, _SENDMSG):
        return ""
    try:
        target = str(Path(f"/proc/{process}/fd/{arguments[0]}").readlink())
    except OSError:
        return ""
    if number in (_WRITE, _PWRITE):
        return f"write to {target}" if target.startswith("/") else ""
    protocol = _netlink_protocol(process, target)
    text = _change(process, number, arguments[1], protocol) if protocol is not None else ""
    return text and f"netlink {protocol}: {text}"


def _netlink_protocol(process: int, target: str) -> int | None:
    inode = target.removeprefix("socket:[").removesuffix("]")
    for line in Path(f"/proc/{process}/net/netlink").read_text().splitlines()[1:]:
        words = line.split()
        if words[-1] == inode:
            return int(words[1])
    return None


def _change(process: int, number: int, address: int, protocol: int) -> str:
    """Describe the first netlink message; "" for a question."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:

        def peek(address: int, size: int) -> bytes:
            memory.seek(address)
            return memory.read(size)

        if number == _SENDMSG:
            (vectors,) = struct.unpack("=Q", peek(address + 16, 8))
            (address,) = struct.unpack("=Q", peek(vectors, 8))
        _, kind, _, _, _, command = struct.unpack("=IHHIIB", peek(address, 17))
    if protocol == _GENERIC:
        return "" if kind == _GENERIC or command in _QUESTIONS else f"IPVS command {command}"
    return "" if kind & 3 == 2 else f"message {kind}"  # RTM_GET*
