"""Why a token failed, why it is not tried again, and what to do about it."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from picas import figures, needs, token
from picas.explain.scene import Finding, Scene, command, last_run, many, reason, together
from picas.figures import duration
from picas.token import Document, Outcome, State

_OUT_OF_MEMORY = "out of memory"
_CODES = {
    126: "the command cannot be executed there",
    127: "there is no such command there",
    137: "it was killed, which kernels and schedulers do where memory runs out",
    139: "it crashed: a segmentation fault",
}
"""What exit codes mean that are not the command's own."""


def error(doc: Document, scene: Scene) -> list[Finding]:
    """Tell why a token failed, and what to do."""
    last = last_run(doc)
    lost = list(takewhile(_was_lost, reversed(token.attempts(doc))))
    if len(lost) >= token.MOST_LOST:
        return [_lost(lost), _next(doc)]
    if last is None:
        return [_unknown(doc), _next(doc)]
    findings = [_failed(last, scene)]
    if reason(last).startswith(_OUT_OF_MEMORY):
        findings.append(_memory(doc, last, scene))
    return [*findings, _tries(doc, last, scene), _next(doc)]


def done(doc: Document, scene: Scene) -> Finding:
    """Tell that there is nothing to explain."""
    at, last = figures.number(doc, "done"), last_run(doc)
    where = f" on {doc['hostname']}" if doc.get("hostname") else ""
    took = f", in {duration(figures.number(last, 'wall'))}" if last else ""
    text = f"It was done {scene.when(at)}{where}{took}: there is nothing to explain."
    return Finding("done", text, {"done": at, "hostname": doc.get("hostname")})


def history(doc: Document) -> list[Finding]:
    """How often it ran, how that ended, and what of it cost a try; not of a single, final run."""
    entries = token.attempts(doc)
    kinds = {
        "failed": sum(bool(entry.get("exit_code")) for entry in entries),
        "lost with its pilot": sum(entry.get("reason") == token.LOST for entry in entries),
        "reset while it ran": sum("reset" in str(entry.get("reason")) for entry in entries),
    }
    broken_off = sum(entry.get("exit_code") is None for entry in entries)
    kinds["released"] = broken_off - kinds["lost with its pilot"] - kinds["reset while it ran"]
    total = token.next_attempt(doc) - 1
    to_run = token.state(doc) is State.TODO
    if total < (1 if to_run else 2) and not broken_off:
        return []
    parts = [f"{number:,} {kind}" for kind, number in kinds.items() if number]
    text = f"So far: {many(total, 'attempt')}" + (f", {together(parts)}." if parts else ".")
    last = last_run(doc)
    if to_run and last and last.get("exit_code"):
        text += f" The last failure: {last.get('reason')}."
    if broken_off:
        text += " What was released or lost cost no try."
    facts = {
        "attempts": total,
        "failed": kinds["failed"],
        "lost": kinds["lost with its pilot"],
        "released": kinds["released"],
        "scrubs": token.scrub_count(doc),
    }
    return [Finding("history", text, facts)]


def _was_lost(entry: Mapping[str, Any]) -> bool:
    return entry.get("reason") == token.LOST


def _lost(entries: Sequence[Mapping[str, Any]]) -> Finding:
    """Its pilots fell silent while they had it."""
    hosts = sorted({str(entry.get("host")) for entry in entries if entry.get("host")})
    text = f"Its pilot was lost {len(entries)} times running"
    text += f" (on {together(hosts)})" if hosts else ""
    text += ": the token may be what kills them, for want of memory perhaps, so it is not run again"
    facts = {"times": len(entries), "hosts": hosts}
    return Finding("lost", f"{text}. 'picas pilots --all' shows these pilots.", facts)


def _unknown(doc: Document) -> Finding:
    """It failed, and nobody noted how."""
    code = doc.get("exit_code")
    said = "" if code in ("", None) else f" with exit code {code}"
    where = f" on {doc['hostname']}" if doc.get("hostname") else ""
    text = f"It failed{said}{where}"
    if (messages := doc.get("error")) and isinstance(messages, list):
        text += f": {_last_line(messages[-1])}"
    else:
        text += ", and has no history: a classic client ran it, or a person wrote that"
    return Finding("failed", f"{text}.", {"exit_code": code, "hostname": doc.get("hostname")})


def _last_line(message: Any) -> str:
    """The last line of a message in the classic ``error`` list: of a traceback, the exception."""
    text = message.get("message") if isinstance(message, dict) else message
    return str(text).strip().rpartition("\n")[2].rstrip(".")


def _failed(last: Mapping[str, Any], scene: Scene) -> Finding:
    """How its latest attempt ended."""
    code, wall = last.get("exit_code"), figures.number(last, "wall")
    host, why = last.get("host"), reason(last)
    text = f"Attempt {last.get('n')} failed" + (f" on {host}" if host else "")
    text += f" {scene.ago(figures.number(last, 'end'))}, after {duration(wall)}: {why}"
    meaning = _CODES.get(code) if isinstance(code, int) else None
    if meaning is not None and not why.startswith(_OUT_OF_MEMORY):
        text += f"; {meaning}"
    facts = {"exit_code": code, "reason": why, "hostname": host, "wall": wall, "n": last.get("n")}
    return Finding("failed", f"{text}.", facts)


def _memory(doc: Document, last: Mapping[str, Any], scene: Scene) -> Finding:
    """It ran out of memory: what it had, and what it asks for."""
    asked, peak = needs.needs(doc).get("memory"), figures.number(last, "memory")
    text = f"Its largest process had {figures.size(peak)} then. " if peak else ""
    text += "It asks for no memory" if asked is None else f"It asks for {figures.size(asked)}"
    text += ": give its field 'memory' more"
    if scene.policy(doc).memory_factor <= 1:
        text += ", or 'picas settings tries=3 memory_factor=2' to have that done by itself"
    return Finding("memory", f"{text}.", {"memory": asked, "peak": int(peak)})


def _tries(doc: Document, last: Mapping[str, Any], scene: Scene) -> Finding:
    """Why there is no other try."""
    policy, used, code = scene.policy(doc), token.failed_tries(doc) + 1, last.get("exit_code")
    final = policy.is_final(Outcome(code, 0.0, 0.0, "", 0.0))
    if final:
        text = f"Exit code {code} is final by its retry policy, so it is not tried again."
    elif used < policy.tries:
        text = (
            f"It had {used:,} of {policy.tries:,} tries: its pilot was told to give it fewer, or "
        )
        text += "the settings were changed since."
    elif used > policy.tries:
        text = f"It had {used:,} tries: its pilot was told to give it more than the settings do."
    elif used > 1:
        text = f"It had all of its {used:,} tries."
    else:
        text = "It had its only try: 'picas settings tries=3' gives all tokens more."
    return Finding("tries", text, {"used": used, "tries": policy.tries, "final": final})


def _next(doc: Document) -> Finding:
    """What a person does about it."""
    has_log = token.log_name(doc["_id"], "err") in (doc.get("_attachments") or {})
    look = command("logs --err" if has_log else "show", doc)
    text = f"{look} tells more. When the cause is gone, {command('reset', doc)} has it run again."
    return Finding("next", text, {"log": has_log})
