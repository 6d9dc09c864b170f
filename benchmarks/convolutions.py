"""Whether every convolution of timm's networks is right on this CPU, forward and backward.

Of every architecture module of timm, the smallest model and some others are followed on inputs of
32, 40 and 64 px without computing anything, and each distinct convolution (map, kernel, stride,
padding, groups, channels) is noted. Then each is computed in float32 and channels-last memory, as
the trainers do, and its output and all gradients are compared with contiguous double precision.
They run in processes apart, with one and two threads, because a library that computes wrong may
also crash or hang; behind such a convolution, a new process goes on. torch's own convolutions are
tried likewise where they are not what the trainers use.

    python benchmarks/convolutions.py --output benchmarks/results/convolutions.json

``ONEDNN_MAX_CPU_ISA=AVX2`` makes a larger CPU compute as a smaller one does. A table is written
beside the JSON, with the ending ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from patchit_hf.common.provenance import command, versions
from patchit_hf.models.backbone import pretraining_args
from patchit_hf.models.feature_maps import feature_map
from patchit_hf.models.small_maps import SmallMapConvolutions, is_replaced

SIZES = (32, 40, 64)  # sides of inputs, in pixels
BATCH = 4
CLOSE = 1e-3  # of the largest value; float32 sums of thousands of products differ by 1e-5
SMALLEST = Path(__file__).parent / "results" / "timm-sweep.json"
MORE = (  # larger ones that people take, and those with a strided 1x1 convolution on few channels
    "convnext_atto", "efficientnet_b0", "fastvit_t8", "mobilenetv2_100", "mobilenetv3_small_100",
    "mobileone_s0", "regnety_002", "repghostnet_050", "repvgg_a0", "repvit_m0_9", "resnet18",
    "resnet50", "resnet50d", "vit_tiny_patch16_224",
)  # fmt: skip
WAIT = 300  # seconds that a convolution may take, also on a busy machine
ISAS = ("AVX2", "DEFAULT")  # instructions that oneDNN may use


class Shape(NamedTuple):
    """A convolution of two dimensions, as numbers."""

    channels: int
    size: tuple[int, int]
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool

    @classmethod
    def read(cls, values: list[Any]) -> Shape:
        """Return the shape that was written as JSON."""
        return cls(*(tuple(v) if isinstance(v, list) else v for v in values))


class Noted(TorchFunctionMode):
    """Notes the convolutions that are called while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[Shape] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and note it if it is a convolution of two dimensions."""
        if func is torch.conv2d:
            self._note(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _note(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        if input.ndim != 4 or isinstance(padding, str):
            return
        self.shapes.add(
            Shape(
                input.shape[1], tuple(input.shape[2:]), weight.shape[0], tuple(weight.shape[2:]),
                _pair(stride), _pair(padding), _pair(dilation), groups, bias is not None,
            )
        )  # fmt: skip


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def shapes_of(name: str, side: int) -> set[Shape] | None:
    """Return the convolutions of a network; None if it takes no inputs of this size.

    Args:
        name: timm's name of the network.
        side: height and width of its inputs, in pixels.
    """
    noted = Noted()
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            args, _ = pretraining_args(name, (side, side))
            model = timm.create_model(name, num_classes=0, **args).eval()
            with torch.no_grad(), noted:
                feature_map(model, torch.zeros(2, 3, side, side))
    except Exception:  # a network may fail in any way on an unsuitable size
        return None
    return noted.shapes


def families(modules: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Return the networks that are followed, by module of timm.

    They are those of ``timm-sweep.json``, the smallest of each module, and ``MORE``.

    Args:
        modules: timm's modules; all by default.
    """
    rows = json.loads(SMALLEST.read_text(encoding="utf-8"))["rows"]
    found: dict[str, list[str]] = {}
    for name in [*(row["model"] for row in rows), *MORE]:
        module = timm.model_entrypoint(name).__module__.rpartition(".")[2]
        if modules is None or module in modules:
            found.setdefault(module, []).append(name)
    return found


def worst(shape: Shape, convolve: Callable[..., Tensor]) -> float:
    """Return the largest error of output and gradients, as a share of the largest value of each.

    Args:
        shape: the convolution.
        convolve: computes it, with the arguments of ``torch.conv2d``.
    """
    torch.manual_seed(0)
    x = torch.randn(BATCH, shape.channels, *shape.size)
    weight = torch.randn(shape.outputs, shape.channels // shape.groups, *shape.kernel)
    tensors = [x, weight, *([torch.randn(shape.outputs)] if shape.bias else [])]
    rest = shape.stride, shape.padding, shape.dilation, shape.groups

    def all_of(convolve: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
        leaves = [t.detach().clone(memory_format=torch.preserve_format) for t in tensors]
        for leaf in leaves:
            leaf.requires_grad_()
        bias = leaves[2] if shape.bias else None
        output = convolve(leaves[0], leaves[1], bias, *rest)
        rng = torch.Generator().manual_seed(1)
        into = torch.randn(output.shape, generator=rng, dtype=torch.float32).to(output.dtype)
        if output.dtype == torch.float32:
            into = into.contiguous(memory_format=torch.channels_last)
        return [output.detach(), *torch.autograd.grad(output, leaves, into)]

    right = all_of(torch.conv2d, [t.double() for t in tensors])
    last = [t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
    errors = [0.0]
    for _ in range(2):  # a broken kernel is not wrong in the same way each time
        for found, wanted in zip(all_of(convolve, last), right, strict=True):
            error = (found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)
            errors.append(float(error) if error == error else float("inf"))
    return max(errors)


def compute(threads: int, ours: bool) -> None:
    """Read shapes from stdin, a line each, and write the error of each to stdout, as JSON."""
    shapes = [Shape.read(json.loads(line)) for line in sys.stdin]
    done = 0
    while done < len(shapes):
        for error in _forked(shapes[done:], threads, ours=ours):
            sys.stdout.write(json.dumps(error) + "\n")
            sys.stdout.flush()
            done += 1


def _forked(shapes: list[Shape], threads: int, *, ours: bool) -> Iterator[float | str]:
    """Yield errors that a forked process computes; the last says how it died, if it did."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        torch.set_num_threads(threads)
        with SmallMapConvolutions() if ours else nullcontext():
            for shape in shapes:
                os.write(writer, f"{worst(shape, torch.conv2d)}\n".encode())
        os._exit(0)
    os.close(writer)
    number = 0
    with open(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], WAIT)[0]:
            line = pipe.readline()
            if not line:
                break
            number += 1
            yield float(line)
        else:
            os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    if number < len(shapes):
        found = signal.Signals(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
        hung = found == signal.SIGKILL
        yield "hung" if hung else f"died ({found.name if found else os.WEXITSTATUS(status)})"


def measured(shapes: list[Shape], threads: int, isa: str, *, ours: bool) -> list[float | str]:
    """Return the error of each convolution, or how its process died.

    Args:
        shapes: the convolutions.
        threads: of torch.
        isa: instructions that oneDNN may use, as ``ONEDNN_MAX_CPU_ISA`` names them.
        ours: whether convolutions are computed as in training; else by torch alone.
    """
    if not shapes:
        return []
    words = [sys.executable, __file__, "--compute", str(threads), *(["--ours"] if ours else [])]
    waiting = {"OMP_WAIT_POLICY": "passive"}  # two threads on a busy machine wait for each other
    env = {**os.environ, **waiting, "OMP_NUM_THREADS": str(threads), "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(
        words,
        input="".join(json.dumps(shape) + "\n" for shape in shapes),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def distinct(modules: list[str] | None) -> tuple[dict[str, list[str]], dict[Shape, str]]:
    """Return which networks were followed, by module, and where each convolution was seen first."""
    followed: dict[str, list[str]] = {}
    where: dict[Shape, str] = {}
    for module, names in families(modules).items():
        for name in names:
            for side in SIZES:
                shapes = shapes_of(name, side)
                if shapes is None:
                    continue
                followed.setdefault(module, []).append(f"{name} at {side}")
                for shape in sorted(shapes):
                    where.setdefault(shape, f"{name} at {side}")
    return followed, where


def sweep(
    followed: dict[str, list[str]], where: dict[Shape, str], isas: Iterable[str]
) -> dict[str, Any]:
    """Return what was followed, and every convolution with its errors, as JSON values."""
    shapes = list(where)
    rows = [{"shape": shape, "of": where[shape], "replaced": _replaced(shape)} for shape in shapes]
    alone = [i for i, row in enumerate(rows) if row["replaced"]]
    for isa, threads in ((isa, threads) for isa in isas for threads in (1, 2)):
        key = f"{isa}, {threads} thread" + "s" * (threads > 1)
        for row, error in zip(rows, measured(shapes, threads, isa, ours=True), strict=True):
            row.setdefault("ours", {})[key] = error
        others = measured([shapes[i] for i in alone], threads, isa, ours=False)
        for i, error in zip(alone, others, strict=True):
            rows[i].setdefault("torch", {})[key] = error
    return {
        "command": command(),
        "versions": versions(),
        "cpu": cpu(),
        "sizes": list(SIZES),
        "followed": followed,
        "wrong": [row for row in rows if any(map(is_wrong, row["ours"].values()))],
        "rows": rows,
    }


def is_wrong(error: float | str) -> bool:
    """Return whether an error is more than rounding, or a crash."""
    return isinstance(error, str) or not error < CLOSE


def _replaced(shape: Shape) -> bool:
    """Whether the trainers compute this convolution another way than torch."""
    x = torch.empty(1, shape.channels, *shape.size)
    weight = torch.empty(shape.outputs, shape.channels // shape.groups, *shape.kernel)
    return is_replaced(x, weight, None, *shape[4:8])


def cpu() -> str:
    """Return the name of this CPU, and its widest vectors."""
    known = Path("/proc/cpuinfo")
    text = known.read_text(encoding="utf-8") if known.exists() else ""
    name = next((x.partition(": ")[2] for x in text.splitlines() if x.startswith("model name")), "")
    return f"{name or platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    rows, followed = result["rows"], result["followed"]
    keys = list(rows[0]["ours"])
    lines = [
        "# Convolutions on the CPU, against contiguous double precision",
        "",
        f"`{result['command']}`, torch {result['versions']['torch']}, timm "
        f"{result['versions']['timm']}, {result['cpu']}.",
        "",
        f"{len(followed)} families of timm, {len(rows)} distinct convolutions at "
        f"{', '.join(map(str, result['sizes']))} px, batches of {BATCH}, channels-last memory: "
        "output, gradients of input, weight and bias. Wrong is an error above "
        f"{CLOSE:g} of the largest value, or a process that died or hung.",
        "",
        "| instructions of oneDNN | as the trainers compute: tried | wrong | largest error "
        "| torch alone, where the trainers differ: tried | wrong |",
        "|---|---|---|---|---|---|",
    ]
    for key in keys:
        ours = [row["ours"][key] for row in rows]
        alone = [row["torch"][key] for row in rows if "torch" in row]
        most = max((e for e in ours if isinstance(e, float)), default=0.0)
        lines.append(
            f"| {key} | {len(ours)} | {sum(map(is_wrong, ours))} | {most:.1e} | {len(alone)} "
            f"| {sum(map(is_wrong, alone))} |"
        )
    lines += [
        "",
        "Where torch alone is wrong:",
        "",
        "| of | convolution | errors |",
        "|---|---|---|",
    ]
    for row in rows:
        bad = {k: e for k, e in row.get("torch", {}).items() if is_wrong(e)}
        if bad:
            said = "; ".join(
                f"{k}: {e if isinstance(e, str) else f'{e:.0%}'}" for k, e in bad.items()
            )
            lines.append(f"| {row['of']} | {_text(row['shape'])} | {said} |")
    lines += ["", "Wrong as the trainers compute:", ""]
    lines += [f"- {row['of']}: {_text(row['shape'])}: {row['ours']}" for row in result["wrong"]]
    lines += [] if result["wrong"] else ["none."]
    lines += [
        "",
        "Followed: " + "; ".join(f"{k} ({', '.join(v)})" for k, v in followed.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _amount(error: float | str) -> str:
    return error if isinstance(error, str) else f"{error:.0%}"


def _text(shape: Shape) -> str:
    s = Shape(*shape)
    kernel, stride = ("x".join(map(str, v)) for v in (s.kernel, s.stride))
    groups = f", {s.groups} groups" if s.groups > 1 else ""
    return (
        f"{s.channels} to {s.outputs} channels, {kernel}, stride {stride}{groups}, map "
        f"{s.size[0]}x{s.size[1]}"
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("convolutions.json"))
    parser.add_argument("--modules", nargs="*", help="modules of timm; all by default")
    parser.add_argument("--isa", nargs="*", default=list(ISAS), help="see ONEDNN_MAX_CPU_ISA")
    parser.add_argument("--compute", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.compute:
        compute(args.compute, args.ours)
        return
    result = sweep(*distinct(args.modules), args.isa)
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(table(result), encoding="utf-8")
    sys.stdout.write(table(result))


if __name__ == "__main__":
    main()
