"""What of a server can be switched while it serves: its flags, and which of two sides handles a call; for tests, what
its functions depend on.

What a flag decides per call changes with the next call, what it decides per connection with the next connection; calls
in flight end as they would have. The tables of routes are rebuilt in one go on the loop, and a call keeps the route
that it was read with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.flags import Flags, Traced, given_as, names, of_phase
from erlmcp.runtime.codec import Codec
from erlmcp.runtime.link import Link
from erlmcp.server.service import CRITICAL
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.server.guarding import Guarding
    from erlmcp.server.service import Service
    from erlmcp.server.side import Side
    from erlmcp.server.trial import Trial
    from erlmcp.server.worker import Worker

TRIAL_OPTIONS: Final = {"rules", "era", "sticky", "compare", "has_shadow", "clock_ns"}


class Switched:
    """The flags, sides and trials of a server. To be changed on its loop, or before it runs."""

    service: Service
    guarding: Guarding
    codec: Codec | None
    quick_route: object
    control_path: str | None = None  # of the socket that an operator may speak to while it serves
    worker: Worker | None = None  # which of several processes behind one address this is
    metrics_address: tuple[str, int] | None = None  # where metrics are shown besides, while it runs
    stack: Any = core.stack(core.IMPLEMENTATION)
    sides: WeakSet[Side]  # as long as a roll-out or a connection holds them
    _conversations: Trial | None = None

    def _begin_flags(self, flags: Flags | None) -> None:
        self.trials: dict[str, Trial] = {}
        self.sides = WeakSet()
        self._use(given_as(flags))

    @property
    def whole(self: Any) -> Any:
        """The server itself; a side of it gives the server that it belongs to."""
        return self

    def control_words(self) -> dict[str, Any]:
        """What can be asked by the control socket besides what it knows of every server: word -> function of params."""
        return {}

    # -- flags ---------------------------------------------------------------------------------------------------------

    @property
    def flags(self) -> Flags:
        """What is switched on."""
        return self._traced.flags

    @flags.setter
    def flags(self, flags: Flags) -> None:
        differing = [name for name in names() if getattr(flags, name) is not getattr(self.flags, name)]
        self._use(self._traced.changed({name: getattr(flags, name) for name in differing}, "run time"))

    def set_flags(self, **given: bool | None) -> Flags:
        """Switch single flags; the record from now on. Raises ConfigurationError for an unknown one."""
        self._use(self._traced.changed(given, "run time"))
        return self.flags

    @property
    def flag_table(self) -> list[dict[str, Any]]:
        """Each flag with its phase, default, value, and where the value comes from."""
        return self._traced.table()

    def _use(self, traced: Traced) -> None:
        self._traced = traced
        self.codec = None if traced.flags.native_json else Codec(self.stack)
        self.guarding.switch(traced.flags)
        for tool in [arm.own for trial in self.trials.values() for arm in trial.arms if arm.own is not None]:
            tool.switch(traced.flags)
        self.install()

    # -- routes --------------------------------------------------------------------------------------------------------

    def install(self: Any) -> None:
        """Put all routes into the tables anew."""
        self.service.install()
        for side in self.sides:
            side.service.install()
        trial = self._dealt
        if trial is not None:
            for method in self.service.methods:
                critical = method in CRITICAL
                self.routes.set_method(method, trial.begin, m.NAME_KEYS.get(method), is_critical=critical)
            self.quick_route = None
        for name in {name for trial in self.trials.values() for name in trial.tools or ()} & self.tools.keys():
            self._set_entry(m.TOOLS_CALL, name, self.tools[name])

    @property
    def _dealt(self) -> Trial | None:
        """The trial of conversations, while its outcome is not the server's own way."""
        trial: Any = self._conversations
        if trial is None or (trial.outcome is not None and trial.arms[trial.outcome].side.is_servers_own):
            return None
        return trial  # type: ignore[no-any-return]

    def _set_entry(self: Any, method: str, name: str, entry: Any) -> None:
        """Of a tool or a prompt, in the tables of all sides; of a tool on trial, what stands for it."""
        for side in self.sides:
            side.set_entry(method, name, entry)
        is_critical = method == m.TOOLS_CALL and entry.plan.priority == "critical"
        if method == m.TOOLS_CALL:
            entry = self._on_trial(name, entry)
        self.routes.set_entry(method, name, entry, is_critical=is_critical)

    def _on_trial(self, name: str, tool: Any) -> Any:
        trial = next((trial for trial in self.trials.values() if name in (trial.tools or ())), None)
        entry = tool if trial is None else trial.entry_of(tool)
        tool.is_simple = tool.may_be_simple and entry is tool  # for clients of this process, which look it up by name
        return entry

    def _drop_entry(self: Any, method: str, name: str) -> None:
        for side in self.sides:
            side.drop_entry(method, name)
        self.routes.drop_entry(method, name)

    def _make_link(self: Any, write: Callable[[bytes], None], kind: str) -> Link:
        trial = self._dealt
        made: Link = Link(self, write, kind=kind) if trial is None else trial.link(write, kind)
        return made

    @contextmanager
    def override_dependencies(self: Any, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Iterator[None]:
        """For tests: within this context ``Depends(real)`` runs ``overrides[real]`` wherever it is named."""
        from erlmcp.server.tool import Tool

        kept = dict(self.tools), dict(self.prompts), dict(self.resources), dict(self.templates)
        for name, tool in kept[0].items():
            self._place_tool(name, Tool(self, tool.plan.override(overrides), tool.guard))
        for name, prompt in kept[1].items():
            self._place_prompt(name, prompt.override(overrides))
        self.resources = {uri: plan.override(overrides) for uri, plan in kept[2].items()}
        self.templates = {uri: plan.override(overrides) for uri, plan in kept[3].items()}
        try:
            yield
        finally:
            for name, tool in kept[0].items():
                self._place_tool(name, tool)
            for name, prompt in kept[1].items():
                self._place_prompt(name, prompt)
            self.resources, self.templates = kept[2], kept[3]

    @asynccontextmanager
    async def _controlled(self: Any) -> AsyncIterator[None]:
        """The control socket, where one was asked for."""
        if self.control_path is None:
            yield
            return
        from erlmcp.server.control import control

        async with control(self, self.control_path):
            yield

    # -- two ways side by side -----------------------------------------------------------------------------------------

    def side(
        self: Any, *, stack: str = core.IMPLEMENTATION, flags: Flags | None = None, is_plain_json: bool = False
    ) -> Side:
        """Another way to serve what is registered, for ``rollout``: on the stack "core" or "model", with these flags
        (without them, the present ones), which it keeps. ``is_plain_json``: where the native codec is off, the json
        module instead of ujson."""
        from erlmcp.server.side import Side

        made = Side(self, flags or self.flags, stack, is_plain=is_plain_json)
        self.sides.add(made)
        return made

    def baseline(self) -> Side:
        """The side that everything is measured against: the twins in Python, all flags off, the json module."""
        return self.side(stack="model", flags=of_phase("baseline"), is_plain_json=True)

    def rollout(
        self: Any,
        name: str,
        *,
        old: Side | Flags | None = None,
        new: Side | Flags | None = None,
        tools: Iterable[str] | None = None,
        **options: Any,
    ) -> Trial:
        """Begin to move calls from the old side to the new one, step by step, for as long as nothing speaks against it.

        A side is one of ``side`` or ``baseline``, or Flags; None: as the server is now. ``tools`` restricts it to calls
        of these; without it whole connections, and over HTTP single requests, are dealt. Options: ``rules``
        (``erlmcp.policy.rollout.Rules``), ``era`` ("modern" or "legacy"), ``sticky`` ("caller", "session" or "call"),
        ``compare(old, new)`` of two results, ``has_shadow``. Raises ConfigurationError.
        """
        from erlmcp.server.side import Side
        from erlmcp.server.trial import SideArm

        wanted = None if tools is None else tuple(tools)
        for tool in wanted or ():
            if tool not in self.tools:
                raise ConfigurationError(f"rollout {name!r}: no tool {tool!r} is registered")
        if wanted is None and self._conversations is not None:
            raise ConfigurationError(f"rollout {self._conversations.name!r} deals all conversations; end it first")
        arms = [SideArm(each if isinstance(each, Side) else self.side(flags=each)) for each in (old, new)]
        made: Trial = self._begin_trial(name, (arms[0], arms[1]), wanted, options)
        return made

    def candidate(self: Any, name: str, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Roll out another version of a tool's function: ``@server.candidate("search")``, or with the function.

        Takes the options of ``rollout`` (the roll-out's ``name`` is the tool's) and those of ``tool``. The new version
        has to take the same arguments; what is listed stays the old version's descriptor. The value is the roll-out,
        or, as a decorator, the function.
        """
        if fn is None:

            def register(fn: Callable[..., Any]) -> Callable[..., Any]:
                self.candidate(name, fn, **options)
                return fn

            return register
        from erlmcp.server.tool import Tool
        from erlmcp.server.trial import ToolArm

        if name not in self.tools:
            raise ConfigurationError(f"candidate {name!r}: no tool of this name is registered")
        given = {key: options.pop(key) for key in TRIAL_OPTIONS & options.keys()}
        plan = self._compile(fn, name=name, **options)
        before = self.tools[name].plan
        if _shape(plan) != _shape(before):
            raise ConfigurationError(
                f"candidate {name!r} takes other arguments than the tool: {_shape(plan)}, not {_shape(before)}"
            )
        guard = self.guarding.again(self.tools[name].guard, self.flags)
        arms = ToolArm(self), ToolArm(self, Tool(self, plan, guard))
        return self._begin_trial(name, arms, (name,), {"has_shadow": not plan.needs_context, **given})

    def _begin_trial(
        self: Any, name: str, arms: tuple[Any, Any], tools: tuple[str, ...] | None, options: dict[str, Any]
    ) -> Trial:
        from erlmcp.server.shadow import may_be_copied
        from erlmcp.server.trial import ERAS, STICKY, Trial

        if name in self.trials:
            raise ConfigurationError(f"rollout {name!r} is under way already; end_rollout first")
        taken = {tool: trial.name for trial in self.trials.values() for tool in trial.tools or ()}
        for tool in tools or ():
            if tool in taken:
                raise ConfigurationError(f"rollout {name!r}: tool {tool!r} is on trial in {taken[tool]!r} already")
        unknown = options.keys() - TRIAL_OPTIONS
        if unknown:
            raise ConfigurationError(f"rollout {name!r}: unknown option {', '.join(sorted(unknown))}")
        if options.get("era") not in (None, *ERAS) or options.get("sticky", "caller") not in STICKY:
            raise ConfigurationError(f"era is one of {', '.join(ERAS)}, sticky one of {', '.join(STICKY)}")
        plans = [tool.plan for known, tool in self.tools.items() if tools is None or known in tools]
        is_copied = options.pop("has_shadow", True) and any(map(may_be_copied, plans))
        trial = Trial(self, name, arms, tools, has_shadow=is_copied, **options)
        self.trials[name] = trial
        if tools is None:
            self._conversations = trial
        self.install()
        return trial

    def end_rollout(self: Any, name: str) -> None:
        """Take a roll-out away: from the next call, and the next connection, on the server's own way serves. Raises
        KeyError where there is none."""
        trial = self.trials.pop(name)
        if self._conversations is trial:
            self._conversations = None
        self.install()
        for tool in set(trial.tools or ()) & self.tools.keys():
            self._set_entry(m.TOOLS_CALL, tool, self.tools[tool])


def _shape(plan: Any) -> tuple[list[str], list[str]]:
    """What a tool takes: the names of its arguments, and of those that must be there."""
    schema = plan.descriptor["inputSchema"]
    return sorted(schema.get("properties", {})), sorted(schema.get("required", []))
