"""The verbs around recordings: make one, play it, judge it, look into it, take it elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from wup.cli import running
from wup.cli.stages import JsonOption, port_of, settings_or_exit

if TYPE_CHECKING:
    from wup.playback import Replay

LogArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR|FILE|jetstream:STREAM...",
        help="A recorder's folder, files (JSON lines, plain or zstd), or a stream of NATS_URL.",
    ),
]
CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", help="A file of catalog and mapping records (JSON lines) that the log lacks."),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", help="Begin here (2026-11-22T16:00:00Z), with a snapshot of each book."
    ),
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End before this time.")]
EXIT_UNKNOWN = 3
_UNITS_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}


def _time(option: str, text: str | None) -> int | None:
    from wup.playback.sources import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        running.fail([f"{option}: {error}"])


def _interval(text: str | None) -> int | None:
    """Microseconds of `250ms`, `1s`, `5m`, `1h`."""
    if text is None:
        return None
    number = text.rstrip("msh")
    unit = _UNITS_US.get(text[len(number) :])
    if unit is None or not number.isdigit() or not 0 < int(number) * unit <= 7 * 86_400_000_000:
        running.fail([f"--every: {text!r} must be like 250ms, 1s, 5m or 1h"])
    return int(number) * unit


def _replay(
    logs: list[str],
    catalog: Path | None = None,
    start: int | None = None,
    end: int | None = None,
    seek: int | None = None,
    quick: bool = False,
) -> Replay:
    """The replay that the arguments ask for; exit 2 with everything that is wrong with them."""
    from wup.errors import SettingsError
    from wup.playback.open import open_replay

    if start is not None and end is not None and start >= end:
        running.fail(["--from: must be before --to"])
    try:
        return open_replay(logs, start=start, end=end, catalog=catalog, seek=seek, quick=quick)
    except SettingsError as error:
        running.fail(error.problems)


def _finish(summary: dict[str, object], *, good: bool, what: str) -> None:
    import orjson

    sys.stderr.write(orjson.dumps(summary).decode() + "\n")
    if not good:
        sys.stderr.write(f"wup: {what}\n")
        sys.exit(1)


def register(app: typer.Typer) -> None:
    """Add the verbs to `app`."""

    @app.command()
    def record(json: JsonOption = False) -> None:
        """market.> of NATS into RECORD_DIR, and JetStream's RECORD_STREAM; health on HTTP_PORT (8083).

        `wup up` records by itself (RECORD=false turns that off); this is for stages that run apart.
        """
        from wup import runtime

        settings, venues = settings_or_exit()
        to_disk = settings.record is not False
        if not to_disk and settings.record_stream is None:
            running.fail(["RECORD: false, and RECORD_STREAM is not set: nothing to record to"])

        async def main(stop: asyncio.Event) -> int:
            async with runtime.Process(settings, venues) as process:
                await process.use_nats("record")
                metrics = process.metrics(9095)
                if settings.record_stream is not None:
                    await process.start_stream()
                if to_disk:
                    await process.start_recorder()
                http = await process.start_recorder_http(port_of(settings, 8083))
                await process.follow_mapping()
                running.started()
                running.say(
                    {
                        "type": "ready",
                        "stage": "record",
                        "folder": settings.record_dir if to_disk else None,
                        "stream": settings.record_stream,
                        "http": http.port,
                        "metrics": metrics,
                    }
                )
                await stop.wait()
            return 0

        running.run(main, log_level=settings.log_level)

    @app.command()
    def replay(
        log: LogArgument,
        out: Annotated[
            str | None, typer.Option(help="Where the consolidated messages go, as JSON lines; - is stdout.")
        ] = None,
        start: FromOption = None,
        end: ToOption = None,
        speed: Annotated[
            str | None,
            typer.Option(
                help="max, or times the recording's own speed: 1, 10, 0.5. Served: 1 if not given.",
                metavar="max|1|10",
            ),
        ] = None,
        serve: Annotated[
            bool,
            typer.Option(
                "--serve", help="Serve it to WebSocket and HTTP clients (ports 8092 and 8090), marked REPLAY."
            ),
        ] = False,
        catalog: CatalogOption = None,
        json: JsonOption = False,
    ) -> None:
        """A recording through normalizer and store; the summary goes to stderr. Twice: identical bytes."""
        from wup import logs
        from wup.errors import BusError, SettingsError
        from wup.playback import cli_run

        logs.configure("warning")
        factor = _speed(speed, serve=serve)
        playing = _replay(log, catalog, _time("--from", start), _time("--to", end))
        if serve:
            if out is not None:
                running.fail(["--out: not together with --serve"])
            _serve(playing, factor or 1.0, json=json)
        began = time.perf_counter()
        try:
            summary = cli_run(playing, out, speed=factor)
        except SettingsError as error:
            running.fail(error.problems)
        except BusError as error:
            running.fail([str(error)])
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            # Whoever read the messages has seen enough.
            sys.stderr.close()
            sys.exit(0)
        summary["seconds"] = round(time.perf_counter() - began, 3)
        good = not summary["bad_lines"] and bool(summary["frames"]) and playing.opened
        _finish(summary, good=good, what=_lacking(playing))

    @app.command()
    def verify(log: LogArgument, catalog: CatalogOption = None) -> None:
        """Is a recording whole? Frames, gaps with reasons, books, and the SHA-256 of what comes out of it.

        One JSON document on stdout; exit 1 when something is missing or damaged.
        """
        import orjson

        from wup import logs
        from wup.errors import BusError
        from wup.playback.verify import verify as judge

        logs.configure("error")
        playing = _replay(log, catalog)
        try:
            found = judge(playing, [Path(name) for name in log if Path(name).is_dir()])
        except BusError as error:
            running.fail([str(error)])
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
        if not found["whole"] or not found["frames"]:
            sys.stderr.write(
                "wup: the recording is not whole\n" if found["frames"] else "wup: no frame in it\n"
            )
            sys.exit(1)

    @app.command()
    def book(
        name: Annotated[
            str, typer.Argument(metavar="BOOK", help="A book's id (.yes or .no), or platform:asset.")
        ],
        log: LogArgument,
        at: Annotated[str, typer.Option("--at", metavar="TIME", help="The moment: 2026-11-22T16:00:00.5Z.")],
        depth: Annotated[int | None, typer.Option(min=1, help="Only the best levels of each side.")] = None,
        catalog: CatalogOption = None,
        quick: Annotated[
            bool,
            typer.Option("--quick", help="Begin shortly before: fast, but without epoch and seq."),
        ] = False,
    ) -> None:
        """The book at a moment of a recording, as a snapshot; exit 3 with the reason if it is unknown."""
        import orjson

        from wup import logs
        from wup.errors import BusError
        from wup.playback.moment import Unknown, book_at
        from wup.playback.sources import show_time

        logs.configure("error")
        at_us = _time("--at", at)
        assert at_us is not None

        def make() -> Replay:
            return _replay(log, catalog, seek=at_us, quick=quick)

        try:
            found = book_at(make, name, at_us, depth=depth, quick=quick)
        except BusError as error:
            running.fail([str(error)])
        except Unknown as unknown:
            answer = {
                "type": "unknown",
                "book": name,
                "at": show_time(at_us),
                "why": unknown.why,
                **unknown.more,
            }
            sys.stdout.write(orjson.dumps(answer).decode() + "\n")
            sys.stderr.write(f"wup: {unknown}\n")
            sys.exit(EXIT_UNKNOWN)
        sys.stdout.write(orjson.dumps(found).decode() + "\n")

    @app.command()
    def export(
        log: LogArgument,
        out: Annotated[str, typer.Option(help="The table: x.csv or x.parquet.")],
        bbo: Annotated[
            bool, typer.Option("--bbo", help="Best bid and offer of every book (the one table there is).")
        ] = True,
        every: Annotated[
            str | None,
            typer.Option(
                metavar="TIME", help="A row per book this often (250ms, 1s, 5m); else at each change."
            ),
        ] = None,
        start: FromOption = None,
        end: ToOption = None,
        catalog: CatalogOption = None,
    ) -> None:
        """A recording's best bids and offers as CSV or Parquet, in exact decimals."""
        from wup import logs
        from wup.errors import BusError, SettingsError
        from wup.playback.export import export_bbo

        logs.configure("warning")
        every_us = _interval(every)
        playing = _replay(log, catalog, _time("--from", start), _time("--to", end))
        try:
            rows = export_bbo(playing, out, every_us=every_us)
        except SettingsError as error:
            running.fail(error.problems)
        except BusError as error:
            running.fail([str(error)])
        summary: dict[str, object] = {
            "type": "exported",
            "rows": rows,
            "frames": playing.player.frames,
            "bad_lines": len(playing.bad_lines),
        }
        _finish(summary, good=bool(rows) and not playing.bad_lines, what=_lacking(playing))


def _lacking(playing: Replay) -> str:
    if not playing.opened and playing.player.records:
        return "--from is after the recording's end"
    return "not everything could be read" if playing.bad_lines else "nothing of it could be played"


def _serve(playing: Replay, speed: float, *, json: bool) -> NoReturn:
    from wup.playback.serving import Serving

    settings, _ = settings_or_exit()

    async def main(stop: asyncio.Event) -> int:
        def started(where: dict[str, object]) -> None:
            running.started()
            ready: dict[str, object] = {
                "type": "ready",
                "stage": "replay",
                "replay": True,
                "speed": speed,
                **where,
            }
            if json:
                running.say(ready)
                return
            sys.stdout.write("This is a recording, not the present: every title begins with REPLAY.\n")
            for name, address in where.items():
                sys.stdout.write(f"{name:>8}  {address}\n")
            sys.stdout.flush()

        await Serving(settings, playing, speed).run(stop, started)
        return 0

    running.run(main, log_level="warning" if settings.log_level == "info" else settings.log_level)


def _speed(text: str | None, *, serve: bool) -> float | None:
    if text is None:
        return 1.0 if serve else None
    if text == "max":
        if serve:
            running.fail(["--speed: max is not for --serve; say how many times the recording's own speed"])
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.001 <= factor <= 100_000:
        running.fail([f"--speed: {text!r} must be max or a number of times (1, 10, 0.5)"])
    return factor
