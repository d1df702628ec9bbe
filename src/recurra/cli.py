"""The command `recurra`: the Python calls of `recurra.run.api`, with words around them."""

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn
from rich.progress import Progress as Bar
from rich.status import Status
from rich.table import Table
from rich.text import Text

from recurra.errors import DataError, RecipeError, RecurraError, RunError, nearest, unknown
from recurra.version import __version__

if TYPE_CHECKING:
    from recurra.data.made import Made
    from recurra.run.progress import Progress

app = typer.Typer(
    name="recurra",
    help="Train, examine and use recurrent networks on your own sequences.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Data = Annotated[str | None, typer.Option("--data", metavar="PATH", help="A file, or a folder with parts.")]
InputFormat = Annotated[
    str | None,
    typer.Option(
        "--input-format", metavar="FORMAT", help="How the data are laid out; found from the content when left out."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what stands there.")]

FORMATS_OF_ROWS = ("csv", "jsonl")
BY_ENDING = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".txt": "text", ".npz": "npz"}
"""What `predict` writes into a file of that ending."""

SECONDS_BETWEEN_LINES = 10.0
CELLS_SHOWN = 60
"""Cells of a tape on either side of the head that are shown."""
WIDTH_OF_A_FILE = 160
"""Columns of a wide table where nothing says how wide the reader's lines are."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recurra {__version__}")
        raise typer.Exit


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"a whole number is expected, not {text!r}") from None


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def train(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A recipe, a task (its default recipe), or a TOML file.")
    ] = None,
    data: Data = None,
    validation: Annotated[
        str | None, typer.Option(metavar="PATH", help="The part that the best weights are chosen on.")
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="PATH", help="The part that is scored once, at the end.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run folder; runs/NAME when left out.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe (again and again); KEY= takes it out."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", parser=_whole, help="The run's seed.")] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="Train with N seeds; mean and standard deviation.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=_whole,
            help="Cross-validation: N runs, each with another part of the data for its test.",
        ),
    ] = None,
    from_run: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin with the weights and vocabulary of that run.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with a run that was stopped.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Learn line by line from --data (- or left out: standard input).")
    ] = False,
    input_format: InputFormat = None,
    output_format: Annotated[
        str | None,
        typer.Option("--output-format", metavar="csv|jsonl", help="--stream: how predictions are written; csv."),
    ] = None,
    force: Force = False,
) -> int:
    """Train a network on sequences.

    The run folder holds weights, scores and the report. With --stream it learns from lines as they come, and writes the
    prediction made before each target was seen to standard output.
    """
    if stream:
        other = {"--validation": validation, "--test": test, "--seeds": seeds, "--folds": folds}
        other |= {"--input-format": input_format}
        for option, value in other.items():
            if value is not None:
                raise RecipeError(f"{option} beside --stream: a stream comes once, a line at a time; leave it out")
        given = {"NAME": name, "--out": out, "--set": set_, "--seed": seed, "--from": from_run, "--force": force}
        return _train_on_stream(given, data, resume, output_format or "csv")
    if output_format is not None:
        raise RecipeError("--output-format: goes with --stream; recurra predict writes predictions of a finished run")
    with _listener() as listener:
        from recurra.run import api, recipe
        from recurra.run.words import outcome

        options: dict[str, Any] = {"validation": validation, "test": test, "listener": listener}
        if resume is not None:
            given = {"NAME": name, "--out": out, "--set": set_, "--seed": seed, "--seeds": seeds, "--from": from_run}
            given |= {"--folds": folds, "--input-format": input_format, "--force": force or None}
            for option, value in given.items():
                if value not in (None, []):
                    raise RecipeError(f"{option} beside --resume: a run goes on with the recipe it began with")
            done = api.resume(resume, data, **options)
        elif name is None:
            raise RecipeError(_name_missing())
        else:
            settings = dict(recipe.assignment(text) for text in set_ or [])
            options |= {"out": out, "settings": settings, "seed": seed, "from_run": from_run}
            options |= {"input_format": input_format, "force": force}
            if seeds is None and folds is None:
                done = api.train(name, data, **options)
            else:
                done = api.train_seeds(1 if seeds is None else seeds, name, data, folds=folds, **options)
    _say(outcome(done))
    return 0


def _train_on_stream(given: dict[str, Any], data: str | None, resume: Path | None, format: str) -> int:
    """`train --stream`: predictions to standard output, words to standard error."""
    from recurra.run import recipe, stream
    from recurra.run.lines import to_csv, to_lines

    if format not in FORMATS_OF_ROWS:
        raise RunError(f"--output-format: {unknown('format', format, FORMATS_OF_ROWS)}")
    written = 0

    def write(row: dict[str, Any]) -> None:
        nonlocal written
        sys.stdout.write(to_lines([row]) if format == "jsonl" else to_csv([row], header=not written))
        sys.stdout.flush()
        written += 1

    def tell(text: str) -> None:
        _say(text, err=True)

    stop = stream.Stop()
    options: dict[str, Any] = {"write": write, "tell": tell, "stop": stop}
    try:
        with stop.listening():
            if resume is not None:
                for option, value in given.items():
                    if value:
                        raise RecipeError(f"{option} beside --resume: a run goes on with the recipe it began with")
                done = stream.resume(resume, data, **options)
            elif given["NAME"] is None:
                raise RecipeError(_name_missing())
            else:
                settings = dict(recipe.assignment(text) for text in given["--set"] or [])
                options |= {"out": given["--out"], "settings": settings, "seed": given["--seed"]}
                options |= {"from_run": given["--from"], "force": given["--force"]}
                done = stream.train(given["NAME"], data, **options)
    except KeyboardInterrupt:
        _say("stopped before the first row", err=True)
        return 130
    _say(stream.outcome(done), err=True)
    return 0 if stop.signal is None else 128 + stop.signal


def _name_missing() -> str:
    from recurra.run import recipe

    known = ", ".join([*recipe.built_in(), *recipe.TASKS])
    return f"NAME is missing: a recipe, a task or a TOML file; known: {known}"


@contextmanager
def _listener() -> "Iterator[Progress]":
    """What shows how training goes, from the first moment on: PyTorch alone takes seconds to begin."""
    console = Console(stderr=True)
    waiting = console.status("reading the data")
    if console.is_terminal:
        waiting.start()
    folder = None
    try:
        from recurra.run.progress import Progress

        listener = Progress(console, waiting)
        try:
            yield listener
        finally:
            folder = listener.folder
    except KeyboardInterrupt:
        waiting.stop()
        go_on = "" if folder is None else f"; go on from the last checkpoint: recurra train --resume {folder}"
        _say(f"stopped{go_on}", err=True)
        raise typer.Exit(130) from None
    finally:
        waiting.stop()


@app.command()
def evaluate(
    run: RunPath,
    data: Data = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another data.options.* of the run's own made source."),
    ] = None,
    input_format: InputFormat = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a run on data whose targets are known.

    Without --data, on the run's own test part; with --set, on that of the same source with other options, such as
    longer sequences.
    """
    from recurra.run import recipe
    from recurra.run.api import load
    from recurra.run.words import counted

    loaded = load(run)
    settings = dict(recipe.assignment(text) for text in set_ or [])
    found = loaded.evaluate(data, input_format=input_format, settings=settings)
    _warn(found["warnings"])
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    title = f"{run}: {counted(found['sequences'], loaded.task.samples)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, value in found["metrics"].items():
        low_high = found["intervals"].get(metric)
        table.add_row(metric, f"{value:.4f}", f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else "")
    Console().print(table)


@app.command()
def predict(
    run: RunPath,
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="The sequences; - reads standard input.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; standard output when left out.")
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--output-format",
            metavar="csv|jsonl|text|npz",
            help="By --out's ending when left out, else csv (tag, translate: text; next frames: npz).",
        ),
    ] = None,
    input_format: InputFormat = None,
    force: Force = False,
) -> None:
    """Write what a run says of further sequences."""
    from recurra.files import check_place, write_bytes
    from recurra.run.api import load

    if out is not None:
        check_place(out, force)
    loaded = load(run)
    formats = loaded.task.formats
    if output_format not in (None, *formats):
        raise RunError(f"--output-format: {unknown('format', output_format, formats)}")
    kind = output_format or _format_of(out, formats)
    said = loaded.predict(data, input_format=input_format)
    _warn(said.warnings)
    content = loaded.written(said, kind, colour=out is None and sys.stdout.isatty())
    if isinstance(content, str) and out is None:
        sys.stdout.write(content)
    elif out is not None:
        write_bytes(out, content.encode() if isinstance(content, str) else content)
    elif isinstance(content, bytes):
        if sys.stdout.isatty():
            raise RunError(
                f"--out: {kind} is no text to be shown; it names a file, or --output-format a text: {_texts(formats)}"
            )
        sys.stdout.buffer.write(content)


def _format_of(out: Path | None, formats: Sequence[str]) -> str:
    """The format that a file's ending asks for; the task's usual one where there is no file, or no ending.

    Raises:
        RunError: The ending is that of none of them. What is usually a text may be called as one likes.
    """
    ending = "" if out is None else out.suffix.lower()
    kind = BY_ENDING.get(ending, formats[0] if not ending or formats[0] == "text" else None)
    if kind is not None and kind in formats:
        return kind
    endings = ", ".join(known for known, format in BY_ENDING.items() if format in formats)
    raise RunError(f"--out: {out}: a name that ends with {endings} is expected, or --output-format {'|'.join(formats)}")


def _texts(formats: Sequence[str]) -> str:
    """Those of a task's formats that are texts."""
    return ", ".join(format for format in formats if format in ("csv", "jsonl", "text"))


@app.command()
def generate(
    run: RunPath,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to go on from; several are written side by side.")
    ] = None,
    prompt_file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="The same from a file, of a text without the end of its last line; - reads standard input.",
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(metavar="N", parser=_whole, help="Symbols (or frames) to write, at most; of texts 500."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="How many for each prompt; 1.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="T", help="Below 1 likely symbols come more often; 0: always the likeliest; 1."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", parser=_whole, help="Draw from the K most probable symbols.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw from the fewest symbols that hold the share P.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(metavar="θ", help="Multiplies the log-probability of what was said before; 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", parser=_whole, help="Of the random numbers; 0.")] = None,
    tempo: Annotated[float | None, typer.Option(metavar="N", help="Music: beats a minute.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text (again and again).")
    ] = None,
    beam: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="Look for the most probable text, N at a time.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Write the prompt before its text.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each text.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Show the tree of what may follow the prompt.")] = False,
    depth: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="--tree: symbols of a path, at most; 8.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="--tree: symbols kept after each, at most; 3.")
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(metavar="P", help="--tree: leave out paths less probable than this; 0.02.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="--tree: draw symbols between which nothing branches as one.")
    ] = False,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--output-format",
            metavar="FORMAT",
            help="By --out's ending when left out. Texts: text, jsonl; trees: text, svg, json; music: json, midi, svg.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; standard output when left out.")
    ] = None,
    force: Force = False,
) -> None:
    """Let a run go on with a text, a film or a tune, or begin one.

    Texts of a language model are drawn symbol by symbol and printed as they come; the same seed gives the same text.
    With --beam the most probable text is looked for instead, and with --tree the symbols that may follow are shown with
    their probabilities, and what may follow these.
    """
    from recurra.files import check_place
    from recurra.run.api import load
    from recurra.run.generation import generator

    options: dict[str, Any] = {
        "prompt": prompt,
        "prompt_file": prompt_file,
        "length": length,
        "samples": samples,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "tempo": tempo,
        "stop": stop,
        "beam": beam,
        "echo": None if echo else False,
        "json": as_json or None,
        "tree": tree or None,
        "depth": depth,
        "width": width,
        "min_probability": min_probability,
        "merge": merge or None,
        "output_format": output_format,
    }
    given = {name: value for name, value in options.items() if value is not None and value != []}
    if out is not None:
        check_place(out, force)
    loaded = load(run)
    found = generator(loaded)
    found.check(given)
    found.write(loaded, given, out, lambda text: _warn([text]))


@app.command()
def inspect(
    run: RunPath,
    data: Data = None,
    sequences: Annotated[
        int, typer.Option(metavar="N", parser=_whole, help="Sequences to look at, evenly taken.")
    ] = 32,
    input_format: InputFormat = None,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there too; - prints them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the FILE of --json.")] = False,
) -> None:
    """Show where a run's gradients go, and what its state keeps.

    Gradient flow, Jacobians, Lyapunov exponents, gates and memory capacity of every layer and direction, on sequences
    of the run's own test part unless --data names others. The numbers go into inspect.json in the run folder, the
    figures into inspect.html and the report, in the place of those of an earlier inspection; --json FILE keeps a copy.
    """
    from recurra.files import check_place, write_text
    from recurra.run.inspect import inspect as inspected

    printed = json_ is not None and str(json_) == "-"
    if json_ is not None and not printed:
        check_place(json_, force)
    with Console(stderr=True).status("looking") if sys.stderr.isatty() else nullcontext():
        told = inspected(run, data, sequences=sequences, input_format=input_format)
        told.write()
    _warn(told.warnings)
    if json_ is not None and not printed:
        write_text(json_, told.to_json())
    if printed:
        typer.echo(told.to_json())
        return
    wide = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_FILE)
    wide.print(told.table())
    _say("\n".join(["", *told.found.words, f"figures {told.page}"]))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two or more run folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs: scores and their differences.

    Differences come with their 95 % intervals, and with what differs in the recipes.
    """
    from recurra.run.compare import compare as compared

    found = compared(runs)
    typer.echo(found.to_json() if as_json else found.to_text())  # laid out for the width already


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A recipe to print whole.")] = None,
) -> None:
    """List the built-in recipes, or print one."""
    from recurra.run import recipe

    if name is not None:
        typer.echo(recipe.load(name).to_toml(), nl=False)
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("recipe", "task", "what it does"):
        table.add_column(column, overflow="fold")
    for key, values in recipe.built_in().items():
        table.add_row(key, values["task"], values.get("description", ""))
    for key, task in recipe.TASKS.items():
        table.add_row(key, key, f"the default: {task.summary}")
    Console().print(table)


@app.command()
def data(
    source: Annotated[
        str | None, typer.Argument(metavar="[PATH | fetch]", help="A file, folder or data set; or the word fetch.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="fetch: the data set to download.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Read it for this task; for a made source, its own.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a data.* key.")] = None,
    input_format: InputFormat = None,
    lines: Annotated[
        int | None,
        typer.Option(metavar="N", parser=_whole, help="Print rows of a made source: whole sequences, N lines at most."),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option("--output-format", metavar="csv|jsonl", help="Print rows so; csv when left out. No end but N."),
    ] = None,
) -> None:
    """Show how a file is read, fetch a data set, or print rows of one.

    What a file, folder or data set looks like to the reader: counts, lengths, classes, first rows. `data fetch NAME`
    downloads a data set. With --lines or --output-format, rows of a source that is drawn from a seed (adding, copy,
    drifting, ...) are printed for another program to read: without --lines, for ever.
    """
    from recurra.run import recipe

    if source == "fetch":
        from recurra.data.fetch import fetch, sets

        if name is None:
            offered = ", ".join(each.name for each in sets().values() if each.files)
            raise DataError(f"NAME is missing: the data set to fetch; known: {offered}")
        if name in sets() and sets()[name].files:
            _say(f"{sets()[name].summary}; terms: {sets()[name].terms}", err=True)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            shown = bar.add_task(name, total=None, visible=False)
            folder = fetch(
                name,
                progress=lambda file, done, total: bar.update(shown, completed=done, total=total, visible=True),
            )
        typer.echo(str(folder))
        return
    if name is not None:
        raise DataError(f"{name!r}: one file or folder at a time")
    from recurra.data import is_known
    from recurra.data.made import MADE
    from recurra.data.opening import encoding_settable

    settings = dict(recipe.assignment(text) for text in set_ or [])
    named = next((settings[key] for key in ("data.path", "data.name", "data.source") if key in settings), None)
    if source is None and named is None:
        raise DataError("PATH is missing: a file, folder or data set, or the word fetch")
    named = str(named) if source is None else source
    made = MADE.get(named) if is_known(named) else None
    if task is None:
        task = made.task if made else "classify"
    if task not in recipe.TASKS:
        raise RecipeError(f"--task: {unknown('task', task, recipe.TASKS)}")
    for key in settings:
        if not key.startswith("data."):
            raise RecipeError(f"--set {key}: only keys data.* tell how data are read")
    if input_format is not None:
        settings["data.format"] = input_format
    if made:
        settings["data.name"] = named
    read = recipe.load(task, settings)
    if lines is None and output_format is None:
        with encoding_settable():
            _say(recipe.TASKS[read.task].reader.describe(source, read.data, read.task))
        return
    if made is None:
        raise DataError(f"--lines, --output-format: {unknown('made source', named, MADE)}")
    _print_rows(made(**read.data.options), lines, output_format or "csv")


def _print_rows(made: "Made", most: int | None, format: str) -> None:
    """Print the rows of a made source, as long as the reader of them stays."""
    from recurra.run.lines import to_csv, to_lines

    if format not in FORMATS_OF_ROWS:
        raise RunError(f"--output-format: {unknown('format', format, FORMATS_OF_ROWS)}")
    if most is not None and most < 1:
        raise DataError(f"--lines: a whole number from 1 is expected, not {most}")
    printed = 0
    for rows in made.rows():
        if most is not None and printed + len(rows) > most:
            if not printed:
                raise DataError(f"--lines {most}: the first sequence of {made.name} has {len(rows)} steps, a line each")
            return
        text = to_lines(rows) if format == "jsonl" else to_csv(rows, header=not printed)
        sys.stdout.write(text)
        printed += len(rows)


@app.command()
def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(metavar="SUITE...", help="What to measure; all when left out. --list names them."),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Cells of the catalogue, made_up, or your own as file.py:NAME."),
    ] = None,
    shapes: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Sizes by name (rows, small, ...) or as B32T50I8H32.")
    ] = None,
    peers: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Whom to measure against, as torch.nn,jax.")
    ] = None,
    threads: Annotated[
        int, typer.Option(metavar="N", parser=_whole, help="Threads that ours and every peer may use.")
    ] = 2,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Time for each cell and shape; 10 when left out.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole, help="Rounds for each cell and shape, instead of a time.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: few shapes, few rounds.")] = False,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every sample, the machine and versions.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios: .png, .svg or .pdf.")] = None,
    force: Force = False,
    list_: Annotated[bool, typer.Option("--list", help="List the suites, shapes and peers.")] = False,
) -> int:
    """Measure speed and memory beside PyTorch, JAX and others.

    Everybody is timed in turn in this process, with the same weights and inputs. First it is checked that ours gives
    what the cells' equations give, and each peer what ours gives; where ours does not, nothing is timed, and the exit
    status is 1. Peers that are not installed are left out: pip install 'recurra[bench]'.
    """
    from recurra.bench.plot import KINDS
    from recurra.bench.report import choices
    from recurra.bench.run import Settings
    from recurra.bench.run import bench as measured
    from recurra.files import check_place

    wide = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_FILE)
    if list_:
        for table in choices():
            wide.print(table)
            wide.print()
        return 0
    for path in (json_, plot):
        if path is not None:
            check_place(path, force)
    if plot is not None and plot.suffix.removeprefix(".") not in KINDS:
        raise RunError(f"--plot: {plot}: a name that ends with .{', .'.join(KINDS)} is expected")
    chosen = {"cells": cells, "shapes": shapes, "peers": peers}
    named = {key: None if text is None else text.split(",") for key, text in chosen.items()}
    settings = Settings(suites=suites or (), **named, threads=threads, seconds=seconds, repeats=repeats, quick=quick)
    console = Console(stderr=True)
    with console.status("making ready") as status:
        report = measured(settings, _Watching(status))
    if json_ is not None:
        report.write_json(json_)
    if plot is not None and report.figures:
        report.write_plot(plot)
    if report.figures:
        wide.print(report.heading(), highlight=False, soft_wrap=True)
    for table in report.tables():
        wide.print()
        wide.print(table)
    for fault in report.faults:
        _say(f"error: {fault}", err=True)
    if report.stopped:
        _say("stopped; this is what was found by then", err=True)
        return 130
    return 1 if report.faults else 0


@app.command()
def turing(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A machine's table, or one that comes along; these are listed without."),
    ] = None,
    tape: Annotated[
        str | None,
        typer.Option("--tape", metavar="SYMBOLS", help="What stands on it, a character a cell; the file's example."),
    ] = None,
    head: Annotated[int, typer.Option(metavar="N", parser=_whole, help="The cell under the head, from 0.")] = 0,
    limit: Annotated[
        int, typer.Option(metavar="N", parser=_whole, help="Steps after which a machine is held for endless.")
    ] = 10_000,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show the first and the last step alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line a step.")] = False,
) -> int:
    """Run a Turing machine as a recurrent network.

    The table is compiled into the weights of a fully connected network of saturated linear units, which is run with
    exact fractions and shown step by step: state, and tape with the symbol under the head in brackets. A plain
    simulator of the machine goes beside it, and every step is compared.
    """
    from recurra.theory import compile_turing_machine, machine
    from recurra.theory.turing import STEPS_PER_STEP

    if file is None:
        for name, one in machine.shipped().items():
            _say(f"{name:16} {one.about}")
        return 0
    if limit < 0:
        raise machine.MachineError(f"--limit: a whole number from 0 is expected, not {limit}")
    read = machine.read(file)
    tape = read.example if tape is None else tape
    read.begin(tape, head)  # whose faults are told before anything is shown
    network = compile_turing_machine(read)
    width = max(len(state) for state in (*read.states, "state"))
    if not as_json:
        _say(f"{network}\n")
        _say(f"{'step':>6}  {'state':{width}}  tape")
    now, step = None, -1
    try:
        pairs = zip(network.run(tape, head=head, limit=limit), read.run(tape, head=head, limit=limit), strict=True)
        for step, (now, plain) in enumerate(pairs):
            if now != plain:
                raise RecurraError(
                    f"step {step:,}: the network stands for {now.state} {now.shown(read.blank)}, the machine is at "
                    f"{plain.state} {plain.shown(read.blank)}: a fault of the compiler; please report it"
                )
            if as_json:
                left, right = "".join(now.left), "".join(now.right)
                typer.echo(json.dumps({"step": step, "state": now.state, "left": left, "right": right}))
            elif not quiet or step == 0:
                typer.echo(f"{step:6}  {now.state:{width}}  {now.shown(read.blank, CELLS_SHOWN)}")
    finally:
        if quiet and not as_json and now is not None and step:
            typer.echo(f"{step:6}  {now.state:{width}}  {now.shown(read.blank, CELLS_SHOWN)}")
    if not as_json:
        assert now is not None
        _say(
            f"\nhalted in state {now.state!r} after {step:,} {'step' if step == 1 else 'steps'} "
            f"({STEPS_PER_STEP * step:,} of the network), equal to the plain simulator's at every one"
        )
    return 0


class _Watching:
    """Shows how a benchmark goes: on a terminal what is done now, elsewhere a line now and then."""

    def __init__(self, status: Status) -> None:
        self.status, self.said = status, time.monotonic()

    def began(self, what: str, number: int, of: int) -> None:
        line = f"{number} of {of}: {what}"
        self.status.update(line)
        if not self.status.console.is_terminal and time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            _say(line, err=True)

    def told(self, text: str) -> None:
        _say(f"note: {text}", err=True)


def _say(text: str, err: bool = False) -> None:
    """Print lines; on a terminal they break between words."""
    if not (sys.stderr if err else sys.stdout).isatty():
        typer.echo(text, err=err)
        return
    for line in text.split("\n"):
        shown = Text(line)
        shown.highlight_regex(r"^error:", "bold red")
        shown.highlight_regex(r"^warning:", "bold yellow")
        Console(stderr=err).print(shown, soft_wrap=line.startswith("recurra "))  # a command is there to be copied


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _say(f"warning: {warning}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if words[:1] != ["bench"]:  # there the peers run as their own users have them
        # Threads that wait for each other sleep instead of spinning: on a machine that does something else too,
        # spinning made training twenty times slower. Read by the OpenMP library when PyTorch is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if any(word == "" and words[n - 1 : n] != ["--prompt"] for n, word in enumerate(words)):  # the present folder, else
        return _failed("a word of the command line is empty; is it a variable that is not set?", debug)
    try:
        result = app(words, prog_name="recurra", standalone_mode=False)
        sys.stdout.flush()
    except RecurraError as error:
        return _failed(str(error), debug)
    except typer.TyperException as error:  # an option that does not exist, a missing argument
        return _failed(_usage(error), debug)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away, which is not our fault
        return 1  # as Typer has it, which meets most of them first
    except OSError as error:
        return _failed(f"{error.filename or 'standard output'}: {error.strerror or error}", debug)
    return result if isinstance(result, int) else 0


def _usage(error: Any) -> str:
    """What is wrong with the words of a command line, told as the other errors are."""
    context, parameter, text = getattr(error, "ctx", None), getattr(error, "param", None), error.message
    if found := re.match(r"No such command '(.*?)'", text):
        commands = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]
        return unknown("command", found[1], commands)
    if text.startswith("No such option") and context is not None:
        return f"no such option {error.option_name}{_option_meant(error.option_name, context)}"
    if (found := re.match(r"Got unexpected extra argument(?:\(s\)|s)? \((.*)\)$", text)) and context is not None:
        return f"{context.info_name}: one argument too many: {found[1]}"
    if found := re.match(r"Option '(.*?)' requires an argument", text):
        return f"{found[1]}: a value is expected behind it"
    if parameter is not None:
        named = max(parameter.opts, key=len)
        named = named if named.startswith("--") else parameter.metavar or named.upper()
        if text:
            return f"{named}: {text}"
        return f"{named} is missing: {parameter.help[0].lower()}{parameter.help[1:].rstrip('.')}"
    return error.format_message()


def _option_meant(name: str, context: typer.Context) -> str:
    """What may be meant by an option that does not exist: one that does, or a key of a recipe."""
    from recurra.run import faults, recipe

    known = [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]
    if guess := nearest(name, known):
        return f"; did you mean {guess}?"
    if context.info_name == "train":
        key = faults.meant([name.lstrip("-").replace("-", "_")], recipe.keys("classify") | recipe.keys("regress"))
        if key is not None:
            return f"; a key of the recipe is set by: --set {key}=VALUE"
    return f"; known: {', '.join(known)}"


def _failed(text: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _say(f"error: {text}", err=True)
    return 2
