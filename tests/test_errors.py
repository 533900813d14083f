import errno
import traceback

import pytest

from gvsl.errors import DivergedError, UserError, told_in
from gvsl.io import UnusableFile
from gvsl.store.remote import DamagedCopyError


def traceback_of(error: Exception, cause: Exception | None = None) -> str:
    try:
        raise error from cause
    except Exception as raised:
        return "".join(traceback.format_exception(raised))


@pytest.mark.parametrize("kind", [UserError, DivergedError, DamagedCopyError, UnusableFile])
def test_a_users_error_is_found_in_a_traceback_as_it_was_raised(kind: type[UserError]) -> None:
    text = f"\n\n-- Process 1 terminated with the following error:\n{traceback_of(kind('a is b: do c'))}"
    told = told_in(text)
    assert (type(told), str(told)) == (kind, "a is b: do c")


def test_of_several_the_innermost_is_found() -> None:
    read = traceback_of(UserError("what is told"), DamagedCopyError("its cause"))
    again = traceback_of(UserError(f"Caught UserError in DataLoader worker process 0.\nOriginal {read}"))
    assert str(told_in(again)) == "what is told"


@pytest.mark.parametrize("name", ["/a/b c.b2nd", "it's", None])
def test_an_error_of_a_disk_is_found_where_a_traceback_ends_with_it(name: str | None) -> None:
    text = traceback_of(OSError(errno.ENOSPC, "No space left on device", *([name] if name else [])))
    told = told_in(f"Caught OSError in DataLoader worker process 0.\nOriginal {text}")
    assert isinstance(told, OSError)
    assert (told.errno, told.strerror, told.filename) == (errno.ENOSPC, "No space left on device", name)
    missing = told_in(traceback_of(FileNotFoundError(errno.ENOENT, "No such file or directory", "a", None, "b")))
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == "a"
    assert told_in(traceback_of(ValueError("a bug"), OSError(errno.ENOSPC, "No space left on device"))) is None
    assert told_in(traceback_of(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))) is None


def test_other_errors_are_none() -> None:
    assert told_in(traceback_of(RuntimeError("gvsl.errors.UserError"))) is None
    assert told_in("http://host/a.b2nd can't be read: copy it again") is None
