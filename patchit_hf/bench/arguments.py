"""How long is measured, and how the result is shown."""

from __future__ import annotations

from dataclasses import dataclass

from patchit_hf.common.arguments import Arguments, arg


@dataclass(frozen=True, kw_only=True)
class BenchArguments(Arguments):
    """Arguments of a measurement; all others are those of the run that is planned."""

    seconds: float = arg(2.0, "--seconds", "bench", "seconds of each turn", identity=False)
    rounds: int = arg(
        3,
        "--rounds",
        "bench",
        "rounds, in each of which everything has a turn; one more is a warm-up",
        identity=False,
    )
    json: bool = arg(False, "--json", "bench", "write the result as JSON", identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("seconds", positive=True)
        self._check_whole("rounds", 1)
