"""Write an algorithm as one script that needs no rlzoo: its file, and of the other files what it uses.

The source of every definition that the algorithm reaches is copied as it stands, comments included; only names change
where two files met: ``optim.adam`` becomes ``optim_adam``. So the script computes what the library computes, bit for
bit, and reads like it.
"""

import ast
import builtins
import importlib
import importlib.metadata
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from rlzoo import envs, names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.data import located
from rlzoo.drivers import named
from rlzoo.drivers.train import updates_for

HEAD = '''"""{docstring}

In one file, on {env}:

    python {script} [--steps {steps}] [--seed 0] [--evaluations 20]

Written by `rlzoo eject` of rlzoo {version}, to be changed at will; it needs
{needs}.
"""
'''

MAIN = '''

# --- train and evaluate ---------------------------------------------------------------------------------------------

CONFIG = {config}
HYPER = {hyper}


def build() -> Algorithm:
    """The algorithm, made for the environment."""
    return make({env}, CONFIG, {dataset}HYPER)


def start(algo: Algorithm, key: jax.Array) -> State:
    """A fresh State."""

    def start(key, hyper, task):
        return {strong}(algo.init(key, hyper, task))

    return jax.jit(start)(key, {float32}(algo.hyper), algo.task)


def training(algo: Algorithm) -> Callable[[State, int], tuple[State, dict[str, jax.Array]]]:
    """A function of a State, which it consumes, and a number of updates: the new State, metrics [num_updates]."""

    @functools.partial(jax.jit, static_argnames="num_updates", donate_argnames="state")
    def scan(state, hyper, task, num_updates):
        return jax.lax.scan(lambda state, _: algo.step(state, hyper, task), state, None, num_updates)

    return lambda state, num_updates: scan(state, {float32}(algo.hyper), algo.task, num_updates)


def evaluation(algo: Algorithm, num_episodes: int) -> Callable[[State, jax.Array], {Episodes}]:
    """A function of a State and a key: whole episodes of the policy's mode, apart from training."""
    env, nothing = algo.env, lambda *seen: None

    def run(state, params, key):
        fixed = algo.policy, env.reset, env.step, env.horizon, num_episodes, True
        return {_episodes}(*fixed, algo.actor(state), params, key, nothing)[0]

    compiled = jax.jit(run)
    return lambda state, key: compiled(state, env.params, key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default={steps:_}, help="{unit} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=20, help="in the course of training (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.seed < 2**32:
        parser.error("--seed must be from 0 to 4294967295")

    algo = build()
    train, evaluate = training(algo), evaluation(algo, num_episodes=32)
    key, eval_key = jax.random.split(jax.random.key(options.seed))
    state = start(algo, key)
    num_updates, done, began = {updates_for}(algo, options.steps), 0, time.monotonic()
    every = max(1, num_updates // max(1, options.evaluations))
    print(f"{{num_updates:,}} updates, evaluated every {{every:,}}; the first wait for the compiler", file=sys.stderr)
    while done < num_updates:
        state, _ = train(state, min(every, num_updates - done))
        done = min(done + every, num_updates)
        returns = evaluate(state, eval_key).returns
        steps, seconds = {steps_after}(algo, done), time.monotonic() - began
        progress = f"{{steps:>12,}} steps {{done / num_updates:5.0%}} {{seconds:5.0f}} s"
        print(f"{{progress}}   return {{returns.mean():.2f}} ± {{returns.std():.2f}}", flush=True)


if __name__ == "__main__":
    main()
'''
MAIN_USES = {  # what is imported for it
    "argparse": ("argparse", None),
    "functools": ("functools", None),
    "jax": ("jax", None),
    "sys": ("sys", None),
    "time": ("time", None),
    "Callable": ("collections.abc", "Callable"),
}
MAIN_CALLS = {
    "rlzoo.drivers.train": ("updates_for", "steps_after", "float32", "strong"),
    "rlzoo.drivers.evaluate": ("Episodes", "_episodes"),
}
MAIN_NAMES = ("CONFIG", "HYPER", "build", "start", "training", "evaluation", "main")


class Definition(NamedTuple):
    """A name that a module defines at its top level."""

    module: str
    name: str


@dataclass
class Source:
    """A module's text, what it defines, and what its imports mean."""

    text: bytes
    doc: str
    nodes: dict[str, ast.stmt]  # by the name it defines, in the order of the file
    modules: dict[str, str]  # local name -> module of rlzoo
    names: dict[str, Definition]  # local name -> definition in another module of rlzoo
    imports: dict[str, tuple[str, str | None]]  # local name -> (module, attribute) of other packages


def _source(module: str) -> Source:
    text = Path(importlib.import_module(module).__file__ or "").read_bytes()
    tree = ast.parse(text)
    found = Source(text, ast.get_docstring(tree) or "", {}, {}, {}, {})
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.imports[alias.asname or alias.name.partition(".")[0]] = alias.name, None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                local, whole = alias.asname or alias.name, f"{node.module}.{alias.name}"
                if not whole.startswith("rlzoo."):
                    found.imports[local] = str(node.module), alias.name
                elif isinstance(sys.modules.get(whole), ModuleType):
                    found.modules[local] = whole
                else:
                    found.names[local] = Definition(str(node.module), alias.name)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.nodes[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            found.nodes |= {name.id: node for name in names}
    return found


SCOPES = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _bound(scope: ast.AST) -> set[str]:
    """The names that a function, lambda or comprehension binds for itself."""
    bound: set[str] = set()
    waiting: list[ast.AST] = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
            continue
        elif isinstance(node, SCOPES):
            continue
        waiting += ast.iter_child_nodes(node)
    return bound


class Use(NamedTuple):
    """A place where a global name is used, with what is taken of it: ``optim``, or ``optim.adam``."""

    name: ast.Name
    attribute: ast.Attribute | None
    local: frozenset[str]  # names that mean something else there


def _uses(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[Use]:
    """Uses of global names in a definition."""
    of = node.value if isinstance(node, ast.Attribute) else node
    if isinstance(of, ast.Name):
        if of.id not in local:
            yield Use(of, node if isinstance(node, ast.Attribute) else None, local)
        return
    inside = local | _bound(node) if isinstance(node, SCOPES) else local
    body = node.body if isinstance(node, ast.FunctionDef) else [node.body] if isinstance(node, ast.Lambda) else None
    for child in ast.iter_child_nodes(node):  # defaults, annotations and decorators belong to the scope around
        yield from _uses(child, inside if body is None or child in body else local)


class Reference(NamedTuple):
    """A use of a definition: the node that its new name replaces."""

    node: ast.expr
    used: Definition
    local: frozenset[str]


class Bundle:
    """The definitions that some roots reach, over all modules, and the names that they get in one file."""

    def __init__(self, first: str, roots: Collection[Definition], dotted: Collection[Definition]):
        """``roots``, where those of the module ``first`` keep their names, and ``dotted``, called as module.name."""
        self.sources: dict[str, Source] = {}
        self.order: list[str] = []  # modules, each after those that it imports
        self.wanted: dict[Definition, None] = {}
        self.imports = dict(MAIN_USES)
        self.dotted = set(dotted)  # reached through their module
        waiting = [*roots, *dotted]
        while waiting:
            one = waiting.pop()
            if one not in self.wanted:
                self.wanted[one] = None
                waiting += [reference.used for reference in self.references(one)]
        self.calls = self._called(first)

    def source(self, module: str) -> Source:
        if module not in self.sources:
            self.sources[module] = source = _source(module)
            for other in [*source.modules.values(), *(x.module for x in source.names.values())]:
                self.source(other)
            self.order.append(module)
        return self.sources[module]

    def references(self, one: Definition) -> Iterator[Reference]:
        """What a definition uses of rlzoo; imports of other packages are noted on the way."""
        source = self.source(one.module)
        for name, attribute, local in _uses(source.nodes[one.name]):
            if isinstance(name.ctx, ast.Store) and isinstance(source.nodes[one.name], ast.ClassDef):
                continue  # a field
            if name.id in source.modules:
                if attribute is None:
                    raise ValueError(
                        f"{one.module}.{one.name} uses {name.id} as a value; name what it uses of the module"
                    )
                used = Definition(source.modules[name.id], attribute.attr)
                self.dotted.add(used)
                yield Reference(attribute, used, local)
            elif name.id in source.nodes:
                yield Reference(name, Definition(one.module, name.id), local)
            elif name.id in source.names:
                yield Reference(name, source.names[name.id], local)
            elif name.id in source.imports:
                self._import(name.id, source.imports[name.id])
            elif not hasattr(builtins, name.id):
                raise ValueError(f"{one.module}.{one.name} uses {name.id}, which is not defined at the top of its file")

    def _import(self, local: str, what: tuple[str, str | None]) -> None:
        if self.imports.setdefault(local, what) != what:
            raise ValueError(f"{local} is imported as {what} and as {self.imports[local]}; rename one")

    def _called(self, first: str) -> dict[Definition, str]:
        """Names for one file. Those of the module ``first`` stay; functions of others keep the name of their file with
        them, as they were called; classes stay where they can, for flax names parameters after them.
        """
        calls: dict[Definition, str] = {}
        taken = {*self.imports, *MAIN_NAMES}
        for one in sorted(self.wanted, key=lambda one: (one.module != first, -self.order.index(one.module), one.name)):
            is_function = isinstance(self.source(one.module).nodes[one.name], ast.FunctionDef)
            name = _prefixed(one) if one.name in taken or (is_function and one in self.dotted) else one.name
            if name in taken:
                raise ValueError(f"two things would be called {name}; rename one of them")
            calls[one] = name
            taken.add(name)
        return calls

    def text(self, one: Definition) -> str:
        """The source of a definition with its new names, and the comments above and behind it."""
        source = self.source(one.module)
        node, lines = source.nodes[one.name], source.text.splitlines(keepends=True)
        first = min([node.lineno, *(x.lineno for x in getattr(node, "decorator_list", ()))]) - 1
        while first and lines[first - 1].startswith(b"#") and not lines[first - 1].startswith(b"# ---"):
            first -= 1

        edits = set()  # line, from and to byte, new name
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            at = len("def " if isinstance(node, ast.FunctionDef) else "class ")
            edits.add((node.lineno, at, at + len(one.name), self.calls[one]))
        for place, used, local in self.references(one):
            new = self.calls[used]
            if new in local:
                raise ValueError(f"{one.module}.{one.name} has another thing called {new}; rename it")
            edits.add((place.lineno, place.col_offset, int(place.end_col_offset or 0), new))
        for line, start, end, new in sorted(edits, reverse=True):
            lines[line - 1] = lines[line - 1][:start] + new.encode() + lines[line - 1][end:]
        text = b"".join(lines[first : node.end_lineno]).decode().rstrip()
        return re.sub(r"  # type: ignore.*", "", text)

    def body(self) -> str:
        """All definitions, file by file."""
        text = ""
        for module in self.order:
            names = [name for name in self.sources[module].nodes if Definition(module, name) in self.wanted]
            if not names:
                continue
            title = f"# --- {module.removeprefix('rlzoo.').replace('.', '/')} "
            text += f"\n\n{title:-<118}\n\n# {self.sources[module].doc.splitlines()[0]}\n\n"
            before: ast.stmt | None = None
            for name in names:
                node = self.sources[module].nodes[name]
                if node is before:  # `a = b = 1` defines two names
                    continue
                plain = all(isinstance(x, ast.Assign | ast.AnnAssign) for x in (before or node, node))
                text += ("" if plain else "\n\n") + self.text(Definition(module, name)) + "\n"
                before = node
        return text

    def needs(self) -> list[str]:
        """Packages that the script imports, at its top or in a function."""
        modules = [module for module, _ in self.imports.values()]
        for one in self.wanted:
            for node in ast.walk(self.source(one.module).nodes[one.name]):
                if isinstance(node, ast.Import):
                    modules += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules.append(str(node.module))
        return sorted({module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names))

    def header(self) -> str:
        """The imports, the standard library's first."""
        plain, of = [], defaultdict(list)
        for local, (module, attribute) in self.imports.items():
            if attribute is None:
                plain.append(
                    (module, f"import {module}" + (f" as {local}" if local != module.partition(".")[0] else ""))
                )
            else:
                of[module].append(attribute if attribute == local else f"{attribute} as {local}")
        lines = plain + [(module, _from(module, sorted(what))) for module, what in of.items()]
        groups: dict[bool, list[str]] = {True: [], False: []}
        for module, line in sorted(lines, key=lambda x: (x[1].startswith("from"), x[0])):
            groups[module.partition(".")[0] in sys.stdlib_module_names].append(line)
        return "\n\n".join("\n".join(group) for group in groups.values() if group) + "\n"


def _from(module: str, what: list[str]) -> str:
    line = f"from {module} import {', '.join(what)}"
    if len(line) <= 120:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in what) + ")"


def _prefixed(one: Definition) -> str:
    """A definition's name with that of its file: optim_adam, IqlConfig, _gymnax_box."""
    stem = one.module.rpartition(".")[2]
    if one.name.startswith("_"):
        return f"_{stem}{one.name}"
    if one.name.isupper():
        return f"{stem.upper()}_{one.name}"
    return f"{stem}_{one.name}" if one.name.islower() else stem.title().replace("_", "") + one.name


def eject(
    algorithm: str,
    env: str,
    steps: int = 1_000_000,
    data: str | Path | None = None,
    preset: str | None = None,
    backend: str | None = None,
    script: str = "script.py",
    data_rule: str | None = None,
) -> str:
    """The text of a script that trains an algorithm and evaluates it, without rlzoo.

    Args: as of `rlzoo train`; ``script`` is the file's name, for its docstring.
    Raises:
        ValueError: an unknown name, or an environment, dataset or number of steps that does not fit the algorithm.
    """
    names.check("algorithm", [algorithm], ALGORITHMS)
    module = ALGORITHMS[algorithm]
    named.check_data(algorithm, data, "--data")
    env, options = envs.named(env, {"backend": backend} if backend else {})
    chosen = module.presets[preset or named.preset_for(env, module.presets, str(data or ""))]
    dataset = None if data is None else named.load_data(module, data, data_rule)
    updates_for(named.make(module, envs.make(env, **options), chosen.config, chosen.hyper._asdict(), dataset), steps)

    roots = [Definition(module.__name__, name) for name in ("make", "Config", "Hyper", "State")]
    roots += [Definition(where, name) for where, names in MAIN_CALLS.items() for name in names]
    dotted = {"make_env": Definition(envs.module(env).__name__, "make")}
    if data is not None:
        dotted["load"] = Definition(named.loader(module, data).__module__, "load")
    bundle = Bundle(module.__name__, roots, dotted.values())
    calls = {one.name: bundle.calls[one] for one in roots} | {role: bundle.calls[one] for role, one in dotted.items()}
    rule = "" if data_rule is None else f", rule={json.dumps(data_rule)}"
    kwargs = "".join(f", {option}={json.dumps(value)}" for option, value in options.items())
    head = HEAD.format(
        docstring=bundle.sources[module.__name__].doc,
        env=env,
        script=script,
        steps=steps,
        version=importlib.metadata.version("rlzoo"),
        needs=", ".join(bundle.needs()),
    )
    main = MAIN.format(
        config=_written("Config", {field.name: getattr(chosen.config, field.name) for field in fields(chosen.config)}),
        hyper=_written("Hyper", chosen.hyper._asdict()),
        env=f"{calls['make_env']}({json.dumps(env.partition('/')[2])}{kwargs})",
        dataset="" if data is None else f"{calls['load']}({json.dumps(str(located(data)))}{rule}), ",
        steps=steps,
        unit=named.unit(module),
        **calls,
    )
    return "\n".join([head, bundle.header(), bundle.body() + main])


def _written(name: str, values: dict[str, Any]) -> str:
    """A call with every field on a line of its own."""

    def one(value: Any) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        return json.dumps(value) if isinstance(value, str) else repr(value)

    return f"{name}(\n" + "".join(f"    {field}={one(value)},\n" for field, value in values.items()) + ")"
