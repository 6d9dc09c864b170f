"""Repositories in memory: commits, branches, tags, regular blobs and LFS objects."""

from __future__ import annotations

import codecs
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

REGULAR_LIMIT = 10 * 1024 * 1024
_LFS_PATTERNS = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack "
    "*.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors "
    "saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents*"
).split()
_LFS_PATTERNS_DATASET = (
    "*.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg *.webp".split()
)
_LFS_ATTRIBUTES = "filter=lfs diff=lfs merge=lfs -text"


class HubError(Exception):
    """An answer other than success, as the Hub words it."""

    def __init__(
        self, status: int, message: str, code: str | None = None, *, commit: str | None = None
    ) -> None:
        """Keep what the answer needs.

        Args:
            status: HTTP status.
            message: Text for the body and the `X-Error-Message` header.
            code: `X-Error-Code`, e.g. `RepoNotFound`.
            commit: `X-Repo-Commit`, where the revision is known.
        """
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit


def git_oid(data: bytes) -> str:
    """The git object id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git keeps in the place of an LFS object."""
    head = "version https://git-lfs.github.com/spec/v1"
    return f"{head}\noid sha256:{sha256}\nsize {size}\n".encode()


def is_text(sample: bytes) -> bool:
    """Whether the head of a file reads as UTF-8 text (it may end inside a character)."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return b"\0" not in sample


@dataclass(frozen=True)
class File:
    """One path's content at one commit."""

    oid: str
    """Git object id: of the content, or of the pointer for an LFS file."""
    size: int
    sha256: str | None = None
    """Set for LFS files only."""

    @property
    def etag(self) -> str:
        """What the Hub gives as the (linked) ETag."""
        return self.sha256 or self.oid

    def lfs_info(self, key: str) -> dict[str, Any]:
        """The `lfs` object of the listings; `key` names the sha256 there."""
        assert self.sha256 is not None
        pointer_size = len(lfs_pointer(self.sha256, self.size))
        return {key: self.sha256, "size": self.size, "pointerSize": pointer_size}


@dataclass(frozen=True)
class Commit:
    """A commit: its whole tree, and where it came from."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    """A model or dataset repository. `kind` is `models` or `datasets`."""

    kind: str
    id: str
    private: bool = False
    owner: str = ""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Regular contents by git object id."""
    lfs: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by sha256, committed or not."""
    xet: dict[str, str] = field(default_factory=dict)
    """Xet hashes, by sha256, of the objects that came that way."""
    uploads: list[str] = field(default_factory=list)
    """Every content received from a client, in order: git id (regular) or sha256 (LFS)."""

    def __post_init__(self) -> None:
        """Make the first commit, which the Hub makes too: `.gitattributes`."""
        patterns = _LFS_PATTERNS + (_LFS_PATTERNS_DATASET if self.kind == "datasets" else [])
        text = "".join(f"{pattern} {_LFS_ATTRIBUTES}\n" for pattern in patterns)
        self._write("main", {".gitattributes": self._regular(text.encode())}, "initial commit")
        self.created = self.commits[self.branches["main"]].date

    # Reading.

    def head(self, revision: str = "main") -> str:
        """The commit a branch, tag, pull request ref or commit id stands for."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        for refs in (self.branches, self.tags):
            if name in refs:
                return refs[name]
        if revision in self.pulls:
            return self.pulls[revision]
        if revision in self.commits:
            return revision
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit_at(self, revision: str = "main") -> Commit:
        """The commit object at a revision."""
        return self.commits[self.head(revision)]

    def read(self, path: str, revision: str = "main") -> bytes:
        """The content of a file at a revision."""
        return self.content(self.file_at(path, revision))

    def file_at(self, path: str, revision: str = "main") -> File:
        """The entry of a file at a revision."""
        commit = self.commit_at(revision)
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", commit=commit.oid)
        return commit.files[path]

    def content(self, file: File) -> bytes:
        """The content behind an entry."""
        return self.blobs[file.oid] if file.sha256 is None else self.lfs[file.sha256]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """All contents by path at a revision, without the Hub's own `.gitattributes`."""
        tree = self.commit_at(revision).files
        return {
            path: self.content(file)
            for path, file in sorted(tree.items())
            if path != ".gitattributes"
        }

    def log(self, revision: str = "main") -> list[Commit]:
        """The commits behind a revision, newest first."""
        found, oid = [], self.head(revision)
        while oid:
            found.append(self.commits[oid])
            oid = found[-1].parent or ""
        return found

    # Rules.

    def is_lfs_path(self, path: str, files: dict[str, File]) -> bool:
        """Whether a tree's `.gitattributes` sends a path to LFS."""
        attributes = files.get(".gitattributes")
        lines = self.content(attributes).decode().splitlines() if attributes else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        patterns = [pattern.replace("[[:space:]]", " ") for pattern in patterns]
        name = path.rpartition("/")[2]
        return any(fnmatchcase(path if "/" in rule else name, rule) for rule in patterns)

    def upload_mode(self, path: str, size: int, sample: bytes, revision: str) -> str:
        """`lfs` by attributes, by size or for binary content; otherwise `regular`."""
        if self.is_lfs_path(path, self.commit_at(revision).files) or size > REGULAR_LIMIT:
            return "lfs"
        return "regular" if is_text(sample) else "lfs"

    # Writing.

    def put_lfs(self, sha256: str, data: bytes) -> None:
        """Store an LFS object after checking it."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HubError(400, "The content does not match its sha256")
        self.lfs[sha256] = data
        self.uploads.append(sha256)

    def commit(
        self,
        revision: str,
        operations: list[dict[str, Any]],
        contents: dict[str, bytes],
        header: dict[str, Any],
        author: str = "",
        *,
        pull: bool = False,
    ) -> Commit:
        """Apply a commit request in one step.

        Args:
            revision: The branch (or pull request ref) to commit to.
            operations: Parsed lines after the header, in order.
            contents: Decoded content of the regular files, by path.
            header: `summary`, `description`, `parentCommit`.
            author: User name.
            pull: Put the commit on a new pull request ref instead.

        Returns:
            The new commit; nothing has changed where an error is raised.
        """
        branch = revision.removeprefix("refs/heads/")
        if branch not in self.branches and revision not in self.pulls:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head, parent = self.head(revision), header.get("parentCommit")
        if parent and not head.startswith(parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self.commits[head].files)
        for operation in operations:
            kind, value = operation["key"], operation["value"]
            path = value["path"]
            if kind == "file":
                data = contents[path]
                if len(data) > REGULAR_LIMIT or not is_text(data):
                    raise HubError(400, f"Your push was rejected: {path} must be an LFS file")
                files[path] = File(git_oid(data), len(data))
            elif kind == "lfsFile":
                oid = value["oid"]
                if oid not in self.lfs:
                    raise HubError(400, f"The LFS object of {path} does not exist: {oid}")
                size = len(self.lfs[oid])
                files[path] = File(git_oid(lfs_pointer(oid, size)), size, oid)
            elif kind in ("deletedFile", "deletedFolder"):
                prefix = path.rstrip("/") + "/"
                gone = [p for p in files if p == path or p.startswith(prefix)]
                gone = [p for p in gone if (p == path) == (kind == "deletedFile")]
                if not gone:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                for name in gone:
                    del files[name]
            else:
                raise HubError(400, f"Unknown operation: {kind}")
        for data in contents.values():
            self._regular(data)
            self.uploads.append(git_oid(data))
        missing = [p for p, f in files.items() if f.sha256 and not self.is_lfs_path(p, files)]
        if missing:  # The Hub notes in .gitattributes what the patterns there miss.
            old = self.content(files[".gitattributes"]) if ".gitattributes" in files else b""
            names = [path.replace(" ", "[[:space:]]") for path in missing]
            lines = "".join(f"{name} {_LFS_ATTRIBUTES}\n" for name in names)
            files[".gitattributes"] = self._regular(old + lines.encode())
        target = f"refs/pr/{len(self.pulls) + 1}" if pull else revision
        summary, text = header.get("summary") or "", header.get("description") or ""
        return self._write(target, files, summary, text, author, head)

    def advance(self, path: str = "other.txt", data: bytes = b"", revision: str = "main") -> str:
        """Commit as somebody else would have in between.

        Args:
            path: A text file to write.
            data: Its content; by default one that differs each time.
            revision: The branch.

        Returns:
            The new commit id.
        """
        data = data or b"change %d\n" % len(self.commits)
        files = {**self.commit_at(revision).files, path: self._regular(data)}
        message = "Change by somebody else"
        return self._write(revision, files, message, "", "other", self.head(revision)).oid

    def _regular(self, data: bytes) -> File:
        file = File(git_oid(data), len(data))
        self.blobs[file.oid] = data
        return file

    def _write(
        self,
        revision: str,
        files: dict[str, File],
        title: str,
        message: str = "",
        author: str = "",
        parent: str | None = None,
    ) -> Commit:
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        tree = sorted((path, file.oid) for path, file in files.items())
        seed = json.dumps([self.kind, self.id, len(self.commits), parent, date, title, tree])
        oid = hashlib.sha1(seed.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, files)
        self.commits[oid] = commit
        refs = self.pulls if revision.startswith("refs/pr/") else self.branches
        refs[revision.removeprefix("refs/heads/")] = oid
        return commit

    # Listings, in the Hub's words.

    def info(self, revision: str = "main", *, blobs: bool = False) -> dict[str, Any]:
        """The answer of `GET /api/{kind}/{id}/revision/{revision}`."""
        commit = self.commit_at(revision)
        siblings: list[dict[str, Any]] = []
        for path, file in sorted(commit.files.items()):
            entry: dict[str, Any] = {"rfilename": path}
            if blobs:
                entry |= {"blobId": file.oid, "size": file.size}
                if file.sha256:
                    entry["lfs"] = file.lfs_info("sha256")
            siblings.append(entry)
        return {
            "_id": hashlib.sha1(self.id.encode()).hexdigest()[:24],
            "id": self.id,
            **({"modelId": self.id} if self.kind == "models" else {}),
            "author": self.owner,
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": self.created,
            "private": self.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
            "usedStorage": sum(map(len, self.lfs.values())),
        }

    def paths(self, revision: str, *, expand: bool = False) -> dict[str, dict[str, Any]]:
        """Entries of all files and folders at a revision, by path."""
        commit = self.commit_at(revision)
        entries: dict[str, dict[str, Any]] = {}
        for path, file in sorted(commit.files.items()):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                name = "/".join(parts[:depth])
                inner = [f.oid for p, f in commit.files.items() if p.startswith(name + "/")]
                oid = hashlib.sha1("".join(inner).encode()).hexdigest()
                entries[name] = {"type": "directory", "oid": oid, "size": 0, "path": name}
            entries[path] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
            if file.sha256:
                entries[path]["lfs"] = file.lfs_info("oid")
        if expand:
            for path, entry in entries.items():
                entry["lastCommit"] = self._last_commit(path, commit)
        return entries

    def _last_commit(self, path: str, commit: Commit) -> dict[str, str]:
        def under(of: Commit) -> dict[str, File]:
            return {p: f for p, f in of.files.items() if p == path or p.startswith(path + "/")}

        while commit.parent and under(self.commits[commit.parent]) == under(commit):
            commit = self.commits[commit.parent]
        return {"id": commit.oid, "title": commit.title, "date": commit.date}
