"""The writer of ``invoke``: one flat function per plan, as Python source, compiled once at registration."""

from __future__ import annotations

import linecache
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from erlmcp.server.bind import Argument, Binding, Slot
from erlmcp.server.depend import AsyncYielded, Node, Yielded
from erlmcp.server.param import MISSING
from erlmcp.server.quick import negation
from erlmcp.server.scalar import Mismatch

Invoke = Callable[[Any, Any], Any]
_EMPTY: Mapping[str, Any] = types.MappingProxyType({})
_BROKEN = (KeyError, TypeError, AttributeError, Mismatch)
_serial = count(1)
DIRECT_MAX = 16  # arguments of a direct call


def compile_invoke(binding: Binding, *, is_async: bool, run_sync: Callable[..., Any] | None = None) -> Invoke:
    """``invoke(arguments, context)``: decode, run the dependencies, call the function.

    With ``is_async`` the function's result is awaited where it has to be (a dependency is async, or cleans up after
    an async function); else ``invoke`` returns what the function returns, which is a coroutine for an async function.
    ``run_sync`` is an async ``(fn, *args, **kwargs)`` that runs a sync function elsewhere, given where the function
    is sync but a dependency is not.
    """
    return _Writer(binding, run_sync).write(is_async)


def direct_call(binding: Binding) -> tuple[tuple[str, ...], tuple[type | None, ...], tuple[object, ...]] | None:
    """Keys, exact classes (None: any) and defaults (MISSING: required), in the order in which the function takes them.

    None where more has to be done for a call than looking up its arguments and passing them by position.
    """
    call = binding.call
    arguments = [slot.argument for slot in binding.slots if slot.source == "argument" and slot.argument is not None]
    if (
        not isinstance(call, types.FunctionType)
        or hasattr(call, "__wrapped__")
        or binding.nodes
        or binding.whole
        or binding.check is not None
        or not len(arguments) == len(binding.slots) == len(binding.arguments) <= DIRECT_MAX
        or tuple(slot.name for slot in binding.slots) != call.__code__.co_varnames[: call.__code__.co_argcount]
        or any(each.default_factory is not None for each in arguments)
        or any(each.decoder.call is not None and each.decoder.exact is None for each in arguments)
    ):
        return None
    classes = tuple(None if each.decoder.call is None else each.decoder.exact for each in arguments)
    return tuple(each.key for each in arguments), classes, tuple(each.default for each in arguments)


def must_await(binding: Binding, is_async: bool) -> bool:
    """Must ``invoke`` itself be a coroutine function?"""
    kinds = {node.kind for node in binding.nodes}
    return bool(kinds & {"async", "async_generator"}) or (is_async and "generator" in kinds)


class _Writer:
    def __init__(self, binding: Binding, run_sync: Callable[..., Any] | None) -> None:
        self.binding = binding
        self.run_sync = run_sync
        self.names: dict[str, Any] = {
            "EMPTY": _EMPTY,
            "BROKEN": _BROKEN,
            "MISSING": MISSING,
            "explain": binding.explain,
        }
        self.lines: list[str] = []

    def write(self, is_async: bool) -> Invoke:
        binding = self.binding
        awaits = must_await(binding, is_async)
        self.lines.append(f"{'async ' if awaits else ''}def invoke(arguments, context):")
        if binding.arguments or binding.strict or binding.whole or binding.check is not None:
            self._write_decoding()
        depth = 1
        for node in binding.nodes:
            depth = self._write_node(node, depth)
        self.names["fn"] = binding.call
        passed = self._passed(binding.slots)
        if not awaits:
            call = f"fn({passed})"
        elif is_async:
            call = f"await fn({passed})"
        elif self.run_sync is not None:
            self.names["run_sync"] = self.run_sync
            call = f"await run_sync(fn{', ' if passed else ''}{passed})"
        else:
            call = f"fn({passed})"
        self._line(depth, f"return {call}")
        return self._compile()

    def _line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def _compile(self) -> Invoke:
        source = "\n".join(self.lines) + "\n"
        filename = f"<erlmcp plan {next(_serial)}: {self.binding.label}>"
        exec(compile(source, filename, "exec"), self.names)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        invoke: Invoke = self.names["invoke"]
        weakref.finalize(invoke, linecache.cache.pop, filename, None)
        return invoke

    def _write_decoding(self) -> None:
        binding = self.binding
        self._line(1, "if arguments is None:")
        self._line(2, "arguments = EMPTY")
        self._line(1, "try:")
        if binding.check is not None:
            self.names["check"] = binding.check
            self._line(2, "if check(arguments):")
            self._line(3, "raise explain(arguments, None)")
        for index, each in enumerate(binding.arguments):
            each.index = index
            self._write_argument(each)
        if binding.strict:
            # As many as are required, and none of these was missing: so there is no other.
            required_count = sum(each.required for each in binding.arguments)
            self.names["KNOWN"] = {each.key for each in binding.arguments}
            self._line(2, f"if len(arguments) != {required_count} and not arguments.keys() <= KNOWN:")
            self._line(3, "raise explain(arguments, None)")
        if not (binding.arguments or binding.strict or binding.check is not None):
            self._line(2, "arguments = dict(arguments)")
        self._line(1, "except BROKEN as error:")
        self._line(2, "raise explain(arguments, error) from None")

    def _write_argument(self, each: Argument) -> None:
        value = f"v{each.index}"
        self.names[f"d{each.index}"] = each.decoder.call
        test = negation(each.decoder.fast, value)
        if each.decoder.call is None:
            test = ""
        decode = f"{value} = d{each.index}({value})"
        if each.required:
            self._line(2, f"{value} = arguments[{each.key!r}]")
            if test:
                self._line(2, f"if {test}:")
                self._line(3, decode)
        elif each.default_factory is not None:
            self.names[f"f{each.index}"] = each.default_factory
            self._line(2, f"{value} = arguments.get({each.key!r}, MISSING)")
            self._line(2, f"if {value} is MISSING:")
            self._line(3, f"{value} = f{each.index}()")
            if test:
                self._line(2, f"elif {test}:")
                self._line(3, decode)
        else:
            self.names[f"x{each.index}"] = each.default
            self._line(2, f"{value} = arguments.get({each.key!r}, x{each.index})")
            if test:
                self._line(2, f"if {test} and {value} is not x{each.index}:")
                self._line(3, decode)

    def _write_node(self, node: Node, depth: int) -> int:
        self.names[f"n{node.index}"] = node.call
        made = f"n{node.index}({self._passed(node.arguments)})"
        value = f"r{node.index}"
        if node.kind == "sync":
            self._line(depth, f"{value} = {made}")
        elif node.kind == "async":
            self._line(depth, f"{value} = await {made}")
        else:
            is_async = node.kind == "async_generator"
            self.names["AsyncYielded" if is_async else "Yielded"] = AsyncYielded if is_async else Yielded
            head = f"async with AsyncYielded({made})" if is_async else f"with Yielded({made})"
            self._line(depth, f"{head} as {value}:")
            return depth + 1
        return depth

    def _passed(self, slots: Iterable[Slot]) -> str:
        return ", ".join(self._parts(slots))

    def _parts(self, slots: Iterable[Slot]) -> Iterator[str]:
        by_name = False
        for slot in slots:
            by_name = by_name or slot.by_name
            if slot.source == "default":
                by_name = True  # the ones after it must be named
                continue
            if slot.source == "rest":
                known = {each.key for each in self.binding.arguments}
                self.names["TAKEN"] = known
                yield "**{k: v for k, v in arguments.items() if k not in TAKEN}"
                continue
            value = "context"
            if slot.argument is not None:
                value = f"v{slot.argument.index}"
            elif slot.node is not None:
                value = f"r{slot.node.index}"
            elif slot.source == "whole":
                value = "arguments"
            yield f"{slot.name}={value}" if by_name else value
