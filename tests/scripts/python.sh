# A program of three hundred lines with threads, subprocesses, sockets and files.
cat > t.py <<'P'
"""Exercises a good part of the standard library; prints the same everywhere."""
import collections
import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import io
import itertools
import json
import math
import mmap
import multiprocessing
import os
import pickle
import queue
import random
import re
import select
import selectors
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def section(f):
    """Runs a test and prints its result or its error."""
    print(f"== {f.__name__}", flush=True)
    try:
        f()
    except Exception as e:  # the text is compared
        print("error", type(e).__name__, e)
    sys.stdout.flush()


def numbers():
    print(sum(range(100000)), math.factorial(30), 2**200 % 1000007)
    print(f"{math.pi:.12f} {math.sin(1e6):.9f} {0.1 + 0.2!r}")
    random.seed(42)
    print([random.randint(0, 999) for _ in range(8)])
    print(sorted(random.sample(range(1000), 10)))


def text():
    words = re.findall(r"\w+", "the quick brown fox jumps over the lazy dog the end")
    print(collections.Counter(words).most_common(2))
    print(json.dumps({"b": [1, 2.5, None], "a": "ü"}, sort_keys=True))
    print(pickle.loads(pickle.dumps({"k": (1, 2)})))
    print(hashlib.sha256(b"x" * 1000000).hexdigest()[:16], zlib.crc32(b"abc"))
    data = bytes(i * i % 251 for i in range(100000))
    print(len(zlib.compress(data, 6)), zlib.decompress(zlib.compress(data)) == data)


def threads():
    total = 0
    lock = threading.Lock()

    def add(n):
        nonlocal total
        for _ in range(n):
            with lock:
                total += 1

    ts = [threading.Thread(target=add, args=(2000,)) for _ in range(8)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    print(total)
    q = queue.Queue(maxsize=5)
    out = []

    def consume():
        while (v := q.get()) is not None:
            out.append(v * v)

    c = threading.Thread(target=consume)
    c.start()
    [q.put(i) for i in range(200)]
    q.put(None)
    c.join()
    print(sum(out))
    with ThreadPoolExecutor(8) as pool:
        print(sum(pool.map(lambda x: x * 3, range(500))))
    e = threading.Event()
    threading.Timer(0.05, e.set).start()
    print(e.wait(5), threading.active_count() >= 1)
    b = threading.Barrier(4)
    order = []
    ts = [threading.Thread(target=lambda: order.append(b.wait())) for _ in range(4)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    print(sorted(order))
    cond = threading.Condition()
    with cond:
        print(cond.wait(0.02))


def subprocesses():
    r = subprocess.run(["sh", "-c", "cat; echo err >&2; exit 4"], input=b"in", capture_output=True)
    print(r.returncode, r.stdout, r.stderr)
    p1 = subprocess.Popen(["seq", "1", "1000"], stdout=subprocess.PIPE)
    p2 = subprocess.Popen(["grep", "-c", "7"], stdin=p1.stdout, stdout=subprocess.PIPE)
    p1.stdout.close()
    print(p2.communicate()[0], p1.wait())
    p = subprocess.Popen(["sleep", "100"])
    p.terminate()
    print(p.wait())
    try:
        subprocess.run(["sleep", "10"], timeout=0.1)
    except subprocess.TimeoutExpired:
        print("timeout")
    try:
        subprocess.run(["/no/such/program"])
    except FileNotFoundError as e:
        print(e.errno == errno.ENOENT)
    outs = [subprocess.Popen(["sh", "-c", f"echo {i}; exit {i}"], stdout=subprocess.PIPE) for i in range(12)]
    print([(int(p.communicate()[0]), p.returncode) for p in outs])
    print(subprocess.check_output(["env"], env={"ONLY": "this"}))
    print(os.system("exit 3") >> 8)
    big = b"z" * 1000000
    print(len(subprocess.run(["cat"], input=big, stdout=subprocess.PIPE).stdout))


def work(n):
    return sum(i * i for i in range(n))


def processes():
    with ProcessPoolExecutor(3) as pool:
        print(list(pool.map(work, [10, 100, 1000, 10000])))
    a, b = multiprocessing.Pipe()
    p = multiprocessing.Process(target=lambda c: c.send([1, "two"]), args=(b,))
    p.start()
    print(a.recv(), p.join(), p.exitcode)
    v = multiprocessing.Value("i", 0)

    def inc():
        for _ in range(300):
            with v.get_lock():
                v.value += 1

    ps = [multiprocessing.Process(target=inc) for _ in range(3)]
    [p.start() for p in ps]
    [p.join() for p in ps]
    print(v.value)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(w, b"child")
        os._exit(7)
    print(os.read(r, 10), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def files():
    d = tempfile.mkdtemp(dir=".")
    path = os.path.join(d, "f")
    with open(path, "w") as f:
        f.writelines(f"line {i}\n" for i in range(10000))
    print(os.path.getsize(path), sum(1 for _ in open(path)))
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:4] = b"LINE"
        print(m.find(b"line 9999"), m[:6])
    print(open(path).readline().strip())
    os.chmod(path, 0o640)
    print(oct(stat.S_IMODE(os.stat(path).st_mode)))
    os.symlink("f", os.path.join(d, "s"))
    os.link(path, os.path.join(d, "h"))
    print(sorted(os.listdir(d)), os.stat(path).st_nlink, os.readlink(os.path.join(d, "s")))
    with open(path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with open(path) as g:
            try:
                fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("locked")
    for i in range(20):
        os.makedirs(os.path.join(d, f"d{i}", "x"))
    print(sum(len(x[1]) for x in os.walk(d)))
    shutil.copytree(d, d + "2", symlinks=True)
    shutil.rmtree(d)
    print(len(os.listdir(d + "2")))
    shutil.rmtree(d + "2")
    with tempfile.TemporaryFile() as t:
        t.write(struct.pack("<IQ", 1, 2))
        t.seek(0)
        print(struct.unpack("<IQ", t.read()))


def sockets():
    name = "py.sock"
    srv = socket.socket(socket.AF_UNIX)
    srv.bind(name)
    srv.listen()

    def serve():
        for _ in range(5):
            c, _ = srv.accept()
            with c:
                c.sendall(c.recv(100).upper())

    t = threading.Thread(target=serve)
    t.start()
    for i in range(5):
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(name)
            c.sendall(f"hello {i}".encode())
            print(c.recv(100))
    t.join()
    srv.close()
    os.unlink(name)
    a, b = socket.socketpair()
    sel = selectors.DefaultSelector()
    sel.register(b, selectors.EVENT_READ, "b")
    print(sel.select(0.01))
    a.send(b"x")
    print([k.data for k, _ in sel.select(1)])
    print(select.select([b], [a], [], 0)[0] == [b])


def signals():
    got = []
    signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    print(got == [signal.SIGUSR1])
    signal.signal(signal.SIGALRM, lambda n, f: got.append(n))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    signal.pause()
    print(got[-1] == signal.SIGALRM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.kill(os.getpid(), signal.SIGUSR2)
    print(signal.sigwait({signal.SIGUSR2}) == signal.SIGUSR2)


def database():
    db = sqlite3.connect("py.db")
    db.execute("create table t (a integer primary key, b text)")
    with db:
        db.executemany("insert into t values (?, ?)", ((i, str(i * i)) for i in range(2000)))
    print(db.execute("select count(*), sum(length(b)) from t where a % 3 = 0").fetchone())
    db.close()
    os.unlink("py.db")


def system():
    print(os.uname().sysname, os.uname().machine, os.sep, sys.byteorder)
    print(os.isatty(0), os.getppid() > 0, len(os.sched_getaffinity(0)) > 0)
    t0 = time.monotonic()
    time.sleep(0.03)
    print(0.029 < time.monotonic() - t0 < 3, time.time() > 1.6e9)
    libc = ctypes.CDLL(None)
    print(libc.getpid() == os.getpid(), ctypes.c_int(libc.abs(-5)).value)
    try:
        termios.tcgetattr(0)
    except termios.error as e:
        print("no tty", e.args[0] == errno.ENOTTY)
    print(os.path.realpath("/proc/self/fd/1") != "", functools.reduce(lambda a, b: a * b, range(1, 11)))
    with contextlib.redirect_stdout(io.StringIO()) as s:
        print("captured")
    print(len(s.getvalue()), list(itertools.islice(itertools.count(5, 5), 3)))


for f in (numbers, text, threads, subprocesses, processes, files, sockets, signals, database, system):
    section(f)
print("end")
P
PYTHONDONTWRITEBYTECODE=1 python3 t.py
echo "status $?"
