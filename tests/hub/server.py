"""A Hub on the loopback interface, for tests of code that pushes to it and loads from it.

It answers the routes that the `huggingface_hub` client, timm, transformers and datasets call, with
the status codes and headers they look at, and keeps everything in memory. LFS objects are served
from another host name (`localhost` instead of `127.0.0.1`), as from a storage service: with signed
links, and refusing requests that carry the Hub's token. `Hub.env` turns Xet off; a client with
`xet.CLIENT` in its environment uses it, with a folder in the place of Xet's service.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests import own_process

from .routes import ROUTES, UNAUTHORIZED, Request, Response, User, join, split
from .store import HubError, Repo


@dataclass
class _Rule:
    """Something to happen on matching requests."""

    route: re.Pattern[str]
    method: str | None
    times: int | None
    after: int
    answer: Response | None = None
    act: Callable[[Request], object] | None = None
    cut: str | None = None
    cut_bytes: int | None = 0

    def takes(self, request: Request) -> bool:
        """Whether the rule applies to this request; counts it where it does."""
        if self.method not in (None, request.method) or not self.route.search(request.target):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


class Hub:
    """The server, its repositories and its log.

    Attributes:
        token: A token that may write to the namespaces `tester` and `org`.
        read_token: The same user's, for reading only.
        users: Users by token.
        repos: Repositories by `id`, data sets by `datasets/id`.
        log: Requests in the order in which they were answered.
        page_size: Entries in one page of a tree listing.
        yaml_errors: If not empty, `validate-yaml` rejects every model card with them.
        home: Folder for the caches of `run` (`HF_HOME` lies in it).
    """

    def __init__(self, home: Path | None = None) -> None:
        """Make a Hub that does not listen yet; see `start`."""
        self.token, self.read_token = f"hf_{secrets.token_hex(16)}", f"hf_{secrets.token_hex(16)}"
        self.users = {
            self.token: User("tester", ("org",)),
            self.read_token: User("tester", ("org",), "read"),
        }
        self.home = home
        self.repos: dict[str, Repo] = {}
        self.log: list[Request] = []
        self.page_size = 1000
        self.yaml_errors: list[str] = []
        self.lock = threading.RLock()
        self._rules: list[_Rule] = []
        self._secret = secrets.token_hex(16)
        self._server: _Server | None = None
        self._port = 0

    # Life.

    def start(self) -> Hub:
        """Listen; after `stop`, on the same port again."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.hub, self._port = self, self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Close the port and every connection; what is stored stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_connections()
            self._server = None

    @property
    def endpoint(self) -> str:
        """The address for `HF_ENDPOINT` and `HfApi(endpoint=...)`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def xet_store(self) -> Path:
        """The folder that stands for Xet's service."""
        if self.home is None:
            raise ValueError("a folder for the store is needed")
        return self.home.absolute() / "xet-store"

    @property
    def storage(self) -> str:
        """The address of the LFS storage: the same server by another host name."""
        return f"http://localhost:{self._port}"

    # Looking.

    def repo(self, name: str) -> Repo:
        """A repository, `org/x` or `datasets/org/x`."""
        return self.repos[name]

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """A repository's contents by path, without the Hub's own `.gitattributes`."""
        with self.lock:
            return self.repos[name].files(revision)

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """The log as (method, path, status); the paths are unquoted and have no query."""
        with self.lock:
            return [(entry.method, unquote(entry.path), entry.status) for entry in self.log]

    def count(self, method: str, route_regex: str = "", status: int | None = None) -> int:
        """How many logged requests match."""
        return sum(
            m == method and bool(re.search(route_regex, path)) and status in (None, s)
            for m, path, s in self.requests
        )

    # Setting up and disturbing.

    def create(self, name: str, files: dict[str, bytes] | None = None, **options: Any) -> Repo:
        """Make a repository directly, without requests.

        Args:
            name: `org/x` or `datasets/org/x`.
            files: First contents; the upload mode follows the Hub's rules.
            **options: `private=True`.

        Returns:
            The repository.
        """
        kind, repo_id = split(name)
        with self.lock:
            repo = Repo(kind, repo_id, owner=repo_id.split("/")[0], **options)
            self.repos[name] = repo
            operations, contents = [], {}
            for path, data in (files or {}).items():
                if repo.upload_mode(path, len(data), data, "main") == "lfs":
                    oid = hashlib.sha256(data).hexdigest()
                    repo.put_lfs(oid, data)
                    operations.append({"key": "lfsFile", "value": {"path": path, "oid": oid}})
                else:
                    contents[path] = data
                    operations.append({"key": "file", "value": {"path": path}})
            if files:
                repo.commit("main", operations, contents, {"summary": "files"}, "tester")
            return repo

    def add_user(self, name: str, orgs: Sequence[str] = (), role: str = "write") -> str:
        """Make a user and give back their token."""
        token = f"hf_{secrets.token_hex(16)}"
        self.users[token] = User(name, tuple(orgs), role)
        return token

    def advance(self, name: str, **change: Any) -> str:
        """Commit to a repository as somebody else (see `Repo.advance`); gives the new commit id."""
        with self.lock:
            return self.repos[name].advance(**change)

    def fail(
        self,
        route_regex: str,
        *,
        method: str | None = None,
        status: int = 503,
        times: int | None = 1,
        after: int = 0,
        headers: dict[str, str] | None = None,
        message: str = "Injected failure",
    ) -> None:
        """Answer matching requests with an error, without doing anything.

        Args:
            route_regex: Searched for in path and query as sent.
            method: Only this method.
            status: The status to answer.
            times: How often; None for always.
            after: How many matching requests to let pass first.
            headers: More headers, e.g. `Retry-After` or `X-Error-Code`.
            message: The error's text.
        """
        answer = Response.of({"error": message}, status)
        answer.headers |= {"X-Error-Message": message, **(headers or {})}
        self._add(route_regex, method, times, after, answer=answer)

    def cut(
        self,
        route_regex: str,
        after_bytes: int | None = 0,
        *,
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        upload: bool = False,
    ) -> None:
        """Close the connection in the middle.

        Args:
            route_regex: Searched for in path and query as sent.
            after_bytes: How much of the answer's body to send; None sends not even a status. The
                request has been carried out in either case.
            method: Only this method. Beware of HEAD, whose answers have no body.
            times: How often; None for always.
            after: How many matching requests to let pass first.
            upload: Cut the request's body after so many bytes instead; nothing is carried out.
        """
        side = "request" if upload else "response"
        self._add(route_regex, method, times, after, cut=side, cut_bytes=after_bytes)

    def delay(
        self,
        route_regex: str,
        seconds: float,
        *,
        method: str | None = None,
        times: int | None = None,
    ) -> None:
        """Wait before carrying out matching requests, always unless `times` is given."""
        self.on(route_regex, lambda request: time.sleep(seconds), method=method, times=times)

    def on(
        self,
        route_regex: str,
        act: Callable[[Request], object],
        *,
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """Call something before matching requests are carried out, e.g. `advance`."""
        self._add(route_regex, method, times, after, act=act)

    def heal(self) -> None:
        """Forget all that `fail`, `cut`, `delay` and `on` asked for."""
        with self.lock:
            self._rules.clear()

    def _add(
        self, route: str, method: str | None, times: int | None, after: int, **what: Any
    ) -> None:
        with self.lock:
            self._rules.append(_Rule(re.compile(route), method, times, after, **what))

    def rules_for(self, request: Request) -> list[_Rule]:
        """The rules that apply to a request now, counting them down."""
        with self.lock:
            return [rule for rule in self._rules if rule.takes(request)]

    # Running a client in another process.

    def env(self, tmp_path: Path | None = None, *, token: str | None = None) -> dict[str, str]:
        """The environment for a client process that talks to this Hub only.

        Args:
            tmp_path: Where its caches go; by default `home`.
            token: Another token; `""` for none.

        Returns:
            This process's environment with the client's variables and proxies replaced.
        """
        home = tmp_path or self.home
        if home is None:
            raise ValueError("a folder for the caches is needed")
        gone = re.compile(r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS)_|.*_proxy$", re.I)
        env = {name: value for name, value in os.environ.items() if not gone.match(name)}
        env |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home / "hf_home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TORCH_HOME": str(home / "torch_home"),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        token = self.token if token is None else token
        return {**env, "HF_TOKEN": token} if token else env

    def run(
        self,
        code_or_argv: str | Sequence[str],
        tmp_path: Path | None = None,
        *,
        args: Sequence[str] = (),
        token: str | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code (a string) or a command (a list) against this Hub.

        Args:
            code_or_argv: Code for this interpreter's `-c`, or a whole command line.
            tmp_path: Where its caches go; by default `home`.
            args: Arguments behind it (`sys.argv[1:]` of the code).
            token: Another token; `""` for none.
            env: Variables on top of `Hub.env`.
            cwd: Working folder.
            check: Raise an AssertionError with the output if it exits with another code than 0.
            timeout: Seconds before it is killed.

        Returns:
            The finished process, with `stdout` and `stderr` as text.
        """
        if isinstance(code_or_argv, str):
            argv = [sys.executable, "-c", textwrap.dedent(code_or_argv), *args]
        else:
            argv = [*code_or_argv, *args]
        env = {**self.env(tmp_path, token=token), **(env or {})}
        if argv[0] == sys.executable:
            done = own_process.run(argv[1:], env=env, cwd=cwd, timeout=timeout)
        else:
            done = subprocess.run(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=timeout, check=False,
            )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    # Answering.

    def answer(self, request: Request) -> Response:
        """Carry out a request."""
        try:
            for method, route, function in ROUTES:
                match = route.fullmatch(request.path)
                if match and request.method in method.split():
                    values = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                    with self.lock:
                        return function(self, request, **values)
            raise HubError(404, "Sorry, we can't find the page you are looking for.")
        except HubError as error:
            headers = {"X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            if error.commit:
                headers["X-Repo-Commit"] = error.commit
            response = Response.of({"error": error.message}, error.status)
            response.headers |= headers
            return response

    def user(self, request: Request) -> User | None:
        """Whom the request's token stands for; None without a token."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            return None
        user = self.users.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def find(self, request: Request, kind: str | None, repo: str, *, write: bool = False) -> Repo:
        """The repository a request is about, if its user may do that."""
        user = self.user(request)
        found = self.repos.get(join(kind or "models", repo))
        seen = found is not None and (not found.private or (user and user.owns(found.owner)))
        if user is None and (write or not seen):
            # Over https, the client takes this 401 for "repository not found" by the address
            # alone; over http it needs the code for that.
            raise HubError(401, UNAUTHORIZED, "RepoNotFound")
        if found is None or not seen:
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write and not (user and user.role == "write" and user.owns(found.owner)):
            raise HubError(403, "Forbidden: you don't have write access to this repository")
        return found

    def signed(self, path: str) -> str:
        """A link to the storage that works without a token."""
        signature = hashlib.sha256((self._secret + path).encode()).hexdigest()[:32]
        return f"{self.storage}{quote(path)}?X-Signature={signature}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # The default of 5 costs parallel clients a second each.
    block_on_close = False
    hub: Hub

    def __init__(self, *args: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # A client that went away is no news.
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def serve(self) -> None:
        """Read a request, apply the rules, carry it out and answer."""
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        rules = hub.rules_for(request)
        cut = next((rule for rule in rules if rule.cut), None)
        if cut and cut.cut == "request":
            self.rfile.read(min(cut.cut_bytes or 0, int(headers.get("content-length", 0))))
            self._record(request, 0)
            self._close()
            return
        request.body = self._body(headers)
        for rule in rules:
            if rule.act:
                rule.act(request)
        canned = next((rule.answer for rule in rules if rule.answer), None)
        try:
            response = canned or hub.answer(request)
        except Exception as error:  # What a bug of this server or of a client looks like outside.
            response = Response.of({"error": f"{type(error).__name__}: {error}"}, 500)
        nothing = cut is not None and cut.cut_bytes is None
        self._record(request, 0 if nothing else response.status)
        if nothing:
            self._close()
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else response.body
        self.wfile.write(body[: cut.cut_bytes] if cut else body)
        if cut:
            self._close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def _record(self, request: Request, status: int) -> None:
        """Log before the client can see the answer, so that its caller finds the entry."""
        request.status = status
        with self.server.hub.lock:
            self.server.hub.log.append(request)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
