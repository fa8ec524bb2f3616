"""Ctrl-C: a program ends within seconds, with one sentence in place of a traceback."""

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

GRACE_SECONDS = 5.0  # from Ctrl-C until the process is ended whatever it does
CODE = 128 + signal.SIGINT  # as shells report it
WAKE = signal.SIGURG  # which has no effect by default
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ADVICE = "stopped; run the same command again to go on: finished parts are kept"


@contextmanager
def stopping(name: str) -> Iterator[None]:
    """End the process with code 130 and one sentence where Ctrl-C interrupts the block.

    SIGTERM, which schedulers send, is answered like Ctrl-C, but not counted beside it.

    The block may clean up for GRACE_SECONDS, or until Ctrl-C comes again. Then the process ends
    at once: Python sees Ctrl-C only when the operation returns that the main thread is in, and one
    operation of torch, or the batch of another thread that is waited for, can take minutes. Files
    get their names when they are complete, so that nothing is half written.

    Outside of the main thread, where no signal arrives, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The C handler of a signal writes its number to `writer` at once, in whatever operation the
    # main thread is; the end of the block closes it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(WAKE, lambda *_: None)
    handlers: dict[int, Any] = {}
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    say = _sentence(name)
    watch = threading.Thread(target=_watch, args=(reader, say), daemon=True)
    watch.start()
    atexit.register(_leave)  # the last of the functions that are registered from here on
    try:
        handlers = _interrupt_by_signals()
        yield
    except KeyboardInterrupt:
        # The thread goes on watching: the end of the interpreter joins threads, too.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        say()
        sys.exit(CODE)
    except BaseException:
        _end_watch(watch, writer, before, handlers)
        raise
    else:
        _end_watch(watch, writer, before, handlers)


def stop_at_once() -> None:
    """Until `stopping` begins, end this program at once where it is stopped, with one sentence."""
    words = sys.orig_argv
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else "mpd"
    say = _sentence(module.removeprefix("mpd."))

    def stop(*_: Any) -> None:
        say()
        os._exit(CODE)

    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


def _interrupt_by_signals() -> dict[int, Any]:
    """Raise KeyboardInterrupt where a signal comes that is not ignored; the handlers before."""
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    is_asked = False

    def interrupt(number: int, _: Any) -> None:
        nonlocal is_asked
        if number == signal.SIGINT or not is_asked:
            is_asked = True
            raise KeyboardInterrupt

    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupt)
    return handlers


def _end_watch(
    watch: threading.Thread, writer: int, before: int, handlers: Mapping[int, Any]
) -> None:
    atexit.unregister(_leave)
    signal.set_wakeup_fd(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.close(writer)
    watch.join()


def _leave() -> None:
    """End the process without the rest of the interpreter's end.

    That would kill a thread which is still in an operation of torch, and C++ would abort.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a pipe may be broken
            stream.flush()
    os._exit(CODE)


def _watch(reader: int, say: Callable[[], None]) -> None:
    """End the process GRACE_SECONDS after it is first stopped, or with the second SIGINT."""
    deadline = None
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        is_readable = bool(select.select([reader], [], [], left)[0])
        numbers = os.read(reader, 1) if is_readable else b""
        if is_readable and not numbers:  # the block has ended
            os.close(reader)
            return
        if deadline is not None and (not is_readable or numbers[0] == signal.SIGINT):
            say()
            _leave()
        if numbers and numbers[0] in SIGNALS and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
            # Another thread may have got the signal, and the main thread waits for a process.
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, WAKE)


def _sentence(name: str) -> Callable[[], None]:
    """A function that prints the sentence, once, after what was printed before."""
    lock = threading.RLock()  # who comes second may end the process
    is_said = False

    def say() -> None:
        nonlocal is_said
        with lock:
            if is_said:
                return
            is_said = True
            with suppress(OSError, ValueError):  # a pipe may be broken
                sys.stdout.flush()
            with suppress(OSError, ValueError):
                print(f"{name}: {ADVICE}\n", end="", file=sys.stderr, flush=True)

    return say
