"""What the kernel keeps from a process: other processes, files, the network, and more than its share.

Three layers, of which a later one holds where an earlier one is missing:
    a filter of system calls    in the child: it computes, reads and writes its open files, and ends itself
    namespaces                  around the server: own process numbers, no network; ends all orphans with it
    resource limits             in the child: memory, CPU time, no new open files, no processes, empty files
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
from collections.abc import Callable
from math import ceil

_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ALLOW, _SECCOMP_RET_ERRNO, _SECCOMP_RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM = 1
# Of the classic BPF machine: load a word of the call's description, compare it with a constant, return.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_AT_NUMBER, _AT_ARCHITECTURE = 0, 4

# The system calls of a process that only computes, by the architecture's number in the kernel's audit.h. In
# both: read, write, close, fstat, mmap, mprotect, munmap, mremap, madvise, brk, futex, sched_yield,
# sched_getaffinity, rt_sigreturn, rt_sigprocmask, getpid, clock_gettime, gettimeofday, getrandom, exit,
# exit_group.
_ALLOWED = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 9, 10, 11, 25, 28, 12, 202, 24, 204, 15, 14, 39, 228, 96, 318, 60, 231),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 80, 222, 226, 215, 216, 233, 214, 98, 124, 123, 139, 135, 172, 113, 169, 278, 93, 94),
    ),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespaces() -> bool:
    """Continue as process 1 of namespaces of its own, without a network; False where the kernel refuses it.

    The process that called waits for the one that continues, and the latter ends with it. When process 1
    ends, the kernel kills all others of its namespace, and none of them can signal a process outside.
    """
    if not hasattr(_libc, "unshare"):
        return False
    own = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    # Without a user namespace this needs privileges; in some containers they are there and the former is not.
    if _libc.unshare(own | _CLONE_NEWUSER) and _libc.unshare(own):
        return False
    first = os.fork()
    if first:
        os.close(0)
        os.close(1)  # so that its other end notices the end of the server
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return True


def adopt_orphans() -> None:
    """Become the parent of all processes that descend from this one and lose theirs."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(*, is_first: bool) -> None:
    """Kill every process that descends from this one, and wait for their ends.

    Args:
        is_first: whether this is process 1 of its own namespace.
    """
    while True:
        for process in [-1] if is_first else _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return [int(number) for number in children.read().split()]
    except OSError:  # not Linux
        return []


def system_call_filter() -> Callable[[], bool] | None:
    """Return a function that confines its process to the calls in `_ALLOWED`; None where there is none.

    It returns whether it succeeded. Other calls then fail as if a permission were missing; calls in
    the manner of another architecture end the process.
    """
    known = _ALLOWED.get(platform.machine())
    if known is None or not hasattr(_libc, "prctl"):
        return None
    architecture, allowed = known
    code = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _SECCOMP_RET_KILL_PROCESS),
        (_LOAD, 0, 0, _AT_NUMBER),
        *((_JUMP_IF_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed)),
        (_RETURN, 0, 0, _SECCOMP_RET_ERRNO | _EPERM),
        (_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
    ]
    instructions = (_Instruction * len(code))(*(_Instruction(*parts) for parts in code))
    program = _Filter(len(code), instructions)

    def confine() -> bool:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return not _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)

    return confine if _succeeds(confine) else None


def _succeeds(confine: Callable[[], bool]) -> bool:
    """Try it in another process."""
    process = os.fork()
    if not process:
        os._exit(not confine())
    return os.waitpid(process, 0)[1] == 0


def limit_resources(*, memory_bytes: int, cpu_seconds: float) -> None:
    """Limit this process for good.

    Args:
        memory_bytes: of address space.
        cpu_seconds: after which the kernel kills it, should nobody else have done so.
    """
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, ceil(cpu_seconds) + 1),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),  # of no effect for root
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = _HARD[kind]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


_HARD = {
    kind: resource.getrlimit(kind)[1] for name, kind in vars(resource).items() if name.startswith("RLIMIT_")
}


def address_space() -> int:
    """Return the bytes of this process's address space, or a size that numpy does not exceed if unknown."""
    try:
        with open("/proc/self/statm") as sizes:
            return int(sizes.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 2**31


def cpu_clock(process: int) -> int:
    """Return the clock, for `time.clock_gettime`, of the CPU time of another process."""
    return (~process << 3) | 2
