"""The Hub's routes: what each request does, and its answer."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from . import xet
from .store import Commit, HubError, Repo

if TYPE_CHECKING:
    from .server import Hub

UNAUTHORIZED = "Invalid username or password."


@dataclass(frozen=True)
class User:
    """Whom a token stands for."""

    name: str
    orgs: tuple[str, ...] = ()
    role: str = "write"

    def owns(self, namespace: str) -> bool:
        """Whether the user is, or belongs to, a namespace."""
        return namespace == self.name or namespace in self.orgs


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    target: str
    """Path and query as sent."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    status: int = 0
    """Status answered; 0 where the connection was closed without an answer."""

    @property
    def path(self) -> str:
        """The path without the query, still quoted."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query's values, the last one of each name."""
        query = parse_qs(urlsplit(self.target).query)
        return {key: values[-1] for key, values in query.items()}

    def flag(self, name: str) -> bool:
        """Whether a query flag is set."""
        return self.query.get(name, "").lower() in ("1", "true")

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, **headers: str) -> Response:
        """A JSON answer; `_` in header names stands for `-`."""
        head = {name.replace("_", "-"): text for name, text in headers.items()}
        head["Content-Type"] = "application/json; charset=utf-8"
        return cls(status, json.dumps(value).encode(), head)


def split(name: str) -> tuple[str, str]:
    """The kind and id behind `org/x` or `datasets/org/x`."""
    return ("datasets", name[9:]) if name.startswith("datasets/") else ("models", name)


def join(kind: str, repo: str) -> str:
    """The contrary of `split`."""
    return repo if kind == "models" else f"{kind}/{repo}"


def _whoami(hub: Hub, request: Request) -> Response:
    user = hub.user(request)
    if user is None:
        raise HubError(401, UNAUTHORIZED)
    orgs = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in user.orgs]
    token = {"displayName": "tests", "role": user.role}
    auth = {"type": "access_token", "accessToken": token}
    return Response.of(
        {"type": "user", "name": user.name, "fullname": user.name, "orgs": orgs, "auth": auth}
    )


def _repo_named(hub: Hub, request: Request) -> tuple[User, str, str]:
    user, payload = hub.user(request), request.json()
    if user is None:
        raise HubError(401, UNAUTHORIZED)
    owner = payload.get("organization") or user.name
    if user.role != "write" or not user.owns(owner):
        raise HubError(403, f'You don\'t have the rights to do this under the namespace "{owner}"')
    return user, payload.get("type", "model") + "s", f"{owner}/{payload['name']}"


def _create(hub: Hub, request: Request) -> Response:
    _, kind, repo_id = _repo_named(hub, request)
    if kind not in ("models", "datasets"):
        raise HubError(400, f"Not served here: {kind}")
    payload, name = request.json(), join(kind, repo_id)
    body = {"url": f"{hub.endpoint}/{name}", "name": repo_id}
    if name in hub.repos:
        error = f"You already created this {kind[:-1]} repo"
        return Response.of({**body, "error": error}, 409, X_Error_Message=error)
    private = payload.get("visibility") == "private" or bool(payload.get("private"))
    repo = hub.create(name, private=private)
    return Response.of({**body, "id": repo_id, "private": repo.private})


def _delete(hub: Hub, request: Request) -> Response:
    _, kind, repo_id = _repo_named(hub, request)
    if hub.repos.pop(join(kind, repo_id), None) is None:
        raise HubError(404, "Repository not found", "RepoNotFound")
    return Response()


def _settings(hub: Hub, request: Request, kind: str, repo: str) -> Response:
    found, payload = hub.find(request, kind, repo, write=True), request.json()
    private = {"private": True, "public": False}.get(payload.get("visibility"), found.private)
    found.private = payload.get("private", private)
    return Response.of({"private": found.private})


def _validate_yaml(hub: Hub, request: Request) -> Response:
    content: str = request.json()["content"]
    errors = [{"message": text} for text in hub.yaml_errors]
    missing = not re.match(r"---\r?\n(.*\S.*\r?\n)+---", content)
    warnings = [{"message": "empty or missing yaml metadata in repo card"}] if missing else []
    return Response.of({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def _info(hub: Hub, request: Request, kind: str, repo: str, rev: str = "main") -> Response:
    found = hub.find(request, kind, repo)
    return Response.of(found.info(rev, blobs=request.flag("blobs")))


def _auth_check(hub: Hub, request: Request, kind: str, repo: str, write: str = "") -> Response:
    hub.find(request, kind, repo, write=bool(write))
    return Response.of({})


def _tree(hub: Hub, request: Request, kind: str, repo: str, rev: str, path: str = "") -> Response:
    found = hub.find(request, kind, repo)
    entries = found.paths(rev, expand=request.flag("expand"))
    path = path.strip("/")
    if path and entries.get(path, {}).get("type") != "directory":
        raise HubError(404, f"{path} does not exist", "EntryNotFound", commit=found.head(rev))
    inside = [entry for name, entry in entries.items() if not path or name.startswith(path + "/")]
    if not request.flag("recursive"):
        depth = path.count("/") + 1 if path else 0
        inside = [entry for entry in inside if entry["path"].count("/") == depth]
    start = int(request.query.get("cursor", 0))
    end = start + int(request.query.get("limit", hub.page_size))
    response = Response.of(inside[start:end])
    if end < len(inside):
        query = urlencode({**request.query, "cursor": end})
        response.headers["Link"] = f'<{hub.endpoint}{request.path}?{query}>; rel="next"'
    return response


def _paths_info(hub: Hub, request: Request, kind: str, repo: str, rev: str) -> Response:
    if "json" in request.headers.get("content-type", ""):
        paths, expand = request.json()["paths"], bool(request.json().get("expand"))
    else:
        form = parse_qs(request.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
    entries = hub.find(request, kind, repo).paths(rev, expand=expand)
    names = [path.strip("/") for path in paths]
    return Response.of([entries[name] for name in names if name in entries])


def _preupload(hub: Hub, request: Request, kind: str, repo: str, rev: str) -> Response:
    found, payload = hub.find(request, kind, repo, write=True), request.json()
    files, answers = found.commit_at(rev).files, []
    ignore = payload.get("gitIgnore")
    if ignore is None and ".gitignore" in files:
        ignore = found.read(".gitignore", rev).decode()
    for item in payload["files"]:
        path, sample = item["path"], base64.b64decode(item["sample"])
        mode = found.upload_mode(path, item["size"], sample, rev)
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": _ignored(path, ignore or "")}
        if path in files:
            answer["oid"] = files[path].etag
        answers.append(answer)
    return Response.of({"files": answers, "commitOid": found.head(rev)})


def _ignored(path: str, gitignore: str) -> bool:
    rules = [line.strip().strip("/") for line in gitignore.splitlines()]
    parts = Path(path).parts
    return any(Path(part).match(r) for r in rules if r and r[0] not in "#!" for part in parts)


def _lfs_batch(hub: Hub, request: Request, repo: str, kind: str = "models") -> Response:
    found, payload = hub.find(request, kind, repo, write=True), request.json()
    name, objects = join(kind, repo), []
    for item in payload["objects"]:
        oid = item["oid"]
        answer: dict[str, Any] = {"oid": oid, "size": item["size"]}
        if payload["operation"] != "upload":
            answer["actions"] = {"download": {"href": hub.signed(f"/storage/{name}/{oid}")}}
        elif oid not in found.lfs:
            verify = f"{hub.endpoint}/{name}.git/info/lfs/objects/verify"
            upload = hub.signed(f"/storage/{name}/{oid}")
            answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        objects.append(answer)
    response = Response.of({"transfer": "basic", "objects": objects})
    response.headers["Content-Type"] = "application/vnd.git-lfs+json"
    return response


def _lfs_verify(hub: Hub, request: Request, repo: str, kind: str = "models") -> Response:
    found, payload = hub.find(request, kind, repo, write=True), request.json()
    if len(found.lfs.get(payload["oid"], b"")) != payload["size"]:
        raise HubError(404, "The uploaded object is missing or has another size")
    return Response()


def _storage(hub: Hub, request: Request, repo: str, oid: str, kind: str = "models") -> Response:
    found, path = hub.repos.get(join(kind, repo)), unquote(request.path)
    if hub.signed(path) != hub.storage + request.target:
        raise HubError(403, "SignatureDoesNotMatch")
    if "authorization" in request.headers:
        raise HubError(400, "Only one auth mechanism allowed")
    if request.headers.get("host") != urlsplit(hub.storage).netloc:
        raise HubError(403, "AccessDenied")
    if found is None or (request.method != "PUT" and oid not in found.lfs):
        raise HubError(404, "NoSuchKey")
    if request.method == "PUT":
        found.put_lfs(oid, request.body)
        return Response(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
    return _content(request, found.lfs[oid], {"ETag": f'"{oid}"'})


def _xet_token(hub: Hub, request: Request, kind: str, repo: str, rev: str, mode: str) -> Response:
    hub.find(request, kind, repo, write=mode == "write").head(rev)
    headers = xet.token(hub.xet_store)
    names = ("casUrl", "accessToken", "exp")  # hf_xet reads the body, Python the headers
    body: dict[str, Any] = dict(zip(names, headers.values(), strict=True))
    response = Response.of({**body, "exp": int(body["exp"])})
    response.headers |= headers
    return response


def _fetch_from_xet(hub: Hub, repo: Repo, lines: list[dict[str, Any]]) -> None:
    """Take over what a client has put into the Xet store."""
    for oid in [line["value"]["oid"] for line in lines if line["key"] == "lfsFile"]:
        if oid not in repo.lfs and (found := xet.find(hub.xet_store, oid)):
            repo.xet[oid], data = found
            repo.put_lfs(oid, data)


def _commit(hub: Hub, request: Request, kind: str, repo: str, rev: str) -> Response:
    found, user = hub.find(request, kind, repo, write=True), hub.user(request)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    if not lines or lines[0]["key"] != "header":
        raise HubError(400, "The first line must be the header")
    _fetch_from_xet(hub, found, lines)
    contents = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in lines
        if line["key"] == "file"
    }
    author, pull, url = user.name if user else "", request.flag("create_pr"), found.id
    made: Commit = found.commit(rev, lines[1:], contents, lines[0]["value"], author, pull=pull)
    url = f"{hub.endpoint}/{join(kind, repo)}"
    answer: dict[str, Any] = {
        "success": True,
        "commitOid": made.oid,
        "commitUrl": f"{url}/commit/{made.oid}",
        "hookOutput": "",
    }
    if pull:
        answer["pullRequestUrl"] = f"{url}/discussions/{len(found.pulls)}"
    return Response.of(answer)


def _commits(hub: Hub, request: Request, kind: str, repo: str, rev: str) -> Response:
    log = hub.find(request, kind, repo).log(rev)
    return Response.of(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": commit.date,
            }
            for commit in log
        ]
    )


def _refs(hub: Hub, request: Request, kind: str, repo: str) -> Response:
    found = hub.find(request, kind, repo)

    def listed(refs: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": prefix + n, "targetCommit": oid} for n, oid in refs.items()]

    return Response.of(
        {
            "branches": listed(found.branches, "refs/heads/"),
            "tags": listed(found.tags, "refs/tags/"),
            "converts": [],
            "pullRequests": listed(found.pulls, ""),
        }
    )


def _branch(hub: Hub, request: Request, kind: str, repo: str, name: str) -> Response:
    found = hub.find(request, kind, repo, write=True)
    if request.method == "POST":
        start = found.head(request.json().get("startingPoint") or "main")
        if name in found.branches:
            raise HubError(409, f"Reference already exists: {name}")
        found.branches[name] = start
    elif name == "main":
        raise HubError(403, "The main branch cannot be deleted")
    elif found.branches.pop(name, None) is None:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Response.of({})


def _tag(hub: Hub, request: Request, kind: str, repo: str, name: str) -> Response:
    found = hub.find(request, kind, repo, write=True)
    if request.method == "POST":  # The address holds the revision, the body the tag.
        tag, target = request.json()["tag"], found.head(name)
        if tag in found.tags:
            raise HubError(409, f"Tag already exists: {tag}")
        found.tags[tag] = target
    elif found.tags.pop(name, None) is None:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Response.of({})


def _resolve(
    hub: Hub, request: Request, repo: str, rev: str, path: str, kind: str = "models"
) -> Response:
    found = hub.find(request, kind, repo)
    file, name = found.file_at(path, rev), quote(path.rpartition("/")[2])
    headers = {"X-Repo-Commit": found.head(rev), "ETag": f'"{file.etag}"'}
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"
    if file.sha256 is None:
        return _content(request, found.content(file), headers)
    headers |= {
        "X-Linked-Size": str(file.size),
        "X-Linked-ETag": f'"{file.sha256}"',
        "Location": hub.signed(f"/storage/{join(kind, repo)}/{file.sha256}"),
    }
    if file.sha256 in found.xet:
        route = f"{hub.endpoint}/api/{kind}/{repo}/xet-read-token/{found.head(rev)}"
        headers |= {"X-Xet-Hash": found.xet[file.sha256], "X-Xet-Refresh-Route": route}
    return Response(302, b"Found. Redirecting", headers)


def _content(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """Content, or the one range of it that was asked for."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-":
        return Response(200, data, headers)
    size, (first, last) = len(data), match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Response(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Response(206, data[start : end + 1], headers)


_API = r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
_WEB = r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+?)"
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Response]]] = [
    (methods, re.compile(route), function)
    for methods, route, function in (
        ("GET", r"/api/whoami-v2", _whoami),
        ("POST", r"/api/validate-yaml", _validate_yaml),
        ("POST", r"/api/repos/create", _create),
        ("DELETE", r"/api/repos/delete", _delete),
        ("PUT", rf"{_API}/settings", _settings),
        ("GET", rf"{_API}(?:/revision/(?P<rev>[^/]+))?", _info),
        ("GET", rf"{_API}/auth-check(?:/(?P<write>write))?", _auth_check),
        ("GET", rf"{_API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?", _tree),
        ("GET", rf"{_API}/commits/(?P<rev>[^/]+)", _commits),
        ("GET", rf"{_API}/refs", _refs),
        ("POST", rf"{_API}/paths-info/(?P<rev>[^/]+)", _paths_info),
        ("POST", rf"{_API}/preupload/(?P<rev>[^/]+)", _preupload),
        ("POST", rf"{_API}/commit/(?P<rev>[^/]+)", _commit),
        ("GET", rf"{_API}/xet-(?P<mode>read|write)-token/(?P<rev>[^/]+)", _xet_token),
        ("POST DELETE", rf"{_API}/branch/(?P<name>[^/]+)", _branch),
        ("POST DELETE", rf"{_API}/tag/(?P<name>[^/]+)", _tag),
        ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", _lfs_batch),
        ("POST", rf"{_WEB}\.git/info/lfs/objects/verify", _lfs_verify),
        ("GET HEAD PUT", rf"/storage{_WEB}/(?P<oid>[0-9a-f]{{64}})", _storage),
        ("GET HEAD", rf"{_WEB}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", _resolve),
    )
]
