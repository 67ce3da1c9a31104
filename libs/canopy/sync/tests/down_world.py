"""A small world around the real `Wanted` and `Follower`: Kubernetes with its history, three controller replicas, a net
that loses, doubles and reorders, MetaManager, and a reader on the node that follows MetaManager.

`walk` takes random steps; every invariant is looked at after each. `heal` ends the faults: all must become equal.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from canopy.contracts.wire import AsOf, Entry, Key, PageAnswer, PageAsk, Push, Put
from canopy.sync.down import Change, Follower, Wanted, older

NAMES, MODELS, KINDS, REPLICAS = ("d1", "d2", "d3", "d4"), ("m1", "m2"), ("Device", "DeviceModel"), 3
PAGE = 2
HEAL_PAGES = 60

Objects = dict[Key, tuple[str, int, tuple[str, str]]]
"""Key -> (uid, resourceVersion, (node, model)); a model's own pair is empty."""


class Violation(Exception):
    """A rule was broken."""


@dataclass(frozen=True)
class Mutant:
    """What to do otherwise than the rules say; the defaults are the rules."""

    follower: type[Follower] = Follower
    reads_unproven: bool = False
    incomplete_counts: bool = False
    reader_forgets_as_of: bool = False


@dataclass
class Kubernetes:
    """One life for each epoch: a restore begins another life at an older resourceVersion."""

    lives: list[list[tuple[int, Key, Any]]] = field(default_factory=lambda: [[]])
    revs: list[int] = field(default_factory=lambda: [0])
    uids: int = 0

    @property
    def epoch(self) -> int:
        return len(self.lives) - 1

    @property
    def rev(self) -> int:
        return self.revs[-1]

    def write(self, key: Key, spec: tuple[str, str] | None) -> None:
        self.revs[-1] += 1
        old = self.objects(self.epoch, key[0], self.rev).get(key)
        if old is None:
            self.uids += 1
        uid = old[0] if old else f"u{self.uids}"
        self.lives[-1].append((self.rev, key, None if spec is None else (uid, self.rev, spec)))

    def restore(self, rev: int) -> None:
        self.lives.append([e for e in self.lives[-1] if e[0] <= rev])
        self.revs.append(rev)

    def objects(self, epoch: int, kind: str, rev: int) -> Objects:
        found = {k: o for at, k, o in self.lives[epoch] if at <= rev and k[0] == kind}
        return {k: o for k, o in found.items() if o is not None}

    def wanted(self, epoch: int, revisions: dict[str, int]) -> dict[Key, Put]:
        """What node A should have at that vector: its devices, and the models that they name."""
        devices = self.objects(epoch, KINDS[0], revisions[KINDS[0]])
        mine = {k: o for k, o in devices.items() if o[2][0] == "A"}
        models = self.objects(epoch, KINDS[1], revisions[KINDS[1]])
        named = {o[2][1] for o in mine.values()}
        both = mine | {k: o for k, o in models.items() if k[2] in named}
        return {k: Put(Entry(*k, o[0], str(o[1])), msgspec.Raw(b"{}")) for k, o in both.items()}


@dataclass
class Replica:
    """A controller's informers: the resourceVersion of each kind, None while it is not complete."""

    epoch: int = 0
    at: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(KINDS))
    leads: bool = False


class DownWorld:
    """One node's channel."""

    def __init__(self, seed: int, mutant: Mutant = Mutant()) -> None:
        self.rng, self.mutant = random.Random(seed), mutant
        self.kube, self.replicas = Kubernetes(), [Replica() for _ in range(REPLICAS)]
        self.replicas[0].leads = True
        self.meta, self.reader = self._new(), self._new()
        self.copy = self._saved(self.meta)
        self.seen: dict[str, AsOf | None] = {"meta": None, "reader": None}
        self.net: list[tuple[str, Any]] = []
        self.kube.write((KINDS[1], "n", "m1"), ("", ""))

    def _new(self, entries: Any = (), as_of: AsOf | None = None, proven: AsOf | None = None) -> Follower:
        return self.mutant.follower(entries, as_of, proven)

    @staticmethod
    def _saved(follower: Follower) -> tuple[list[Entry], AsOf | None, AsOf | None]:
        return list(follower.entries), follower.mark.as_of, follower.mark.proven

    # --- steps --------------------------------------------------------------------------------------------------------
    def walk(self, steps: int) -> None:
        actions = self._actions()
        for _ in range(steps):
            self.rng.choice(actions)()
            self.check()

    def _actions(self) -> list[Callable[[], None]]:
        often = [self.change, self.inform, self.inform, self.inform, self.meta_asks, self.deliver, self.deliver]
        often += [self.deliver, self.reader_asks]
        seldom = [self.lose, self.double, self.restart, self.lead, self.save, self.lose_file, self.restore_file]
        return often * 15 + seldom * 2 + [self.begin] * 8 + [self.restart_edge, self.lose_reader, self.restore]

    def change(self) -> None:
        rng, kube = self.rng, self.kube
        if rng.random() < 0.3:
            kube.write((KINDS[1], "n", rng.choice(MODELS)), rng.choice([("", ""), ("", ""), None]))
        else:
            spec = (rng.choice("AAB"), rng.choice(MODELS))
            kube.write((KINDS[0], "n", rng.choice(NAMES)), rng.choice([spec, spec, None]))

    def inform(self) -> None:
        """A list, the next event, or a bookmark reaches an informer; a leader pushes what changed."""
        replica, kind = self.rng.choice(self.replicas), self.rng.choice(KINDS)
        before = self._set(replica)
        if replica.epoch != self.kube.epoch:
            replica.epoch, replica.at = self.kube.epoch, dict.fromkeys(KINDS)
        at = replica.at[kind]
        coming = [rev for rev, key, _ in self.kube.lives[-1] if key[0] == kind and at is not None and rev > at]
        replica.at[kind] = coming[0] if coming else self.kube.rev
        if replica.leads:
            self._push(replica, before)

    def _set(self, replica: Replica) -> dict[Key, Put]:
        return self.kube.wanted(replica.epoch, {k: v or 0 for k, v in replica.at.items()})

    def _as_of(self, replica: Replica) -> AsOf:
        missing = self.kube.revs[replica.epoch] if self.mutant.incomplete_counts else 0
        return AsOf(epoch=replica.epoch, revisions={k: missing if v is None else v for k, v in replica.at.items()})

    def _push(self, replica: Replica, before: dict[Key, Put]) -> None:
        now = self._set(replica)
        puts = [p for k, p in now.items() if before.get(k) != p]
        deletes = [k for k in before if k not in now]
        if puts or deletes:
            push = Push(as_of=self._as_of(replica), hash=Wanted(now.values()).hash, puts=puts, deletes=deletes)
            self.net.append(("push", push))

    def meta_asks(self) -> None:
        if self.meta.passing:
            self.net.append(("ask", self.meta.ask(PAGE)))

    def reader_asks(self) -> None:
        self.reader.begin()
        self.net.append(("read", self.reader.ask(PAGE)))

    def begin(self) -> None:
        self.meta.begin()

    def deliver(self) -> None:
        """Any message in the net arrives; an ask is answered by any replica."""
        if not self.net:
            return
        what, message = self.net.pop(self.rng.randrange(len(self.net)))
        if what == "ask":
            self.net.append(("answer", self._serve(self.rng.choice(self.replicas), message)))
        elif what == "read":
            self._serve_reader(message)
        elif what == "given":
            self._take(self.reader, message)
        else:
            self._take(self.meta, message)

    def _serve(self, replica: Replica, ask: PageAsk) -> PageAnswer:
        return Wanted(self._set(replica).values()).answer(ask, self._as_of(replica), most_bytes=100)

    def _serve_reader(self, ask: PageAsk) -> None:
        as_of = self.meta.mark.as_of
        if as_of is None or not (self.meta.proven or self.mutant.reads_unproven):
            return
        held = {e.key: Put(e, msgspec.Raw(b"{}")) for e in self.meta.entries}
        answer = Wanted.over(self.meta.entries, held.__getitem__).answer(ask, as_of, most_bytes=100)
        self.net.append(("given", answer))

    def _take(self, follower: Follower, message: PageAnswer | Push) -> None:
        change = follower.judge(message)
        if change is not None:
            follower.commit(change)
        follower.after(message, change)

    # --- faults -------------------------------------------------------------------------------------------------------
    def lose(self) -> None:
        if self.net:
            self.net.pop(self.rng.randrange(len(self.net)))

    def double(self) -> None:
        if self.net:
            self.net.append(self.rng.choice(self.net))

    def restart(self) -> None:
        self.replicas[self.rng.randrange(REPLICAS)] = Replica(self.kube.epoch)

    def lead(self) -> None:
        replica = self.rng.choice(self.replicas)
        replica.leads = not replica.leads

    def save(self) -> None:
        self.copy = self._saved(self.meta)

    def lose_file(self) -> None:
        self.meta, self.seen["meta"] = self._new(), None

    def restore_file(self) -> None:
        self.meta, self.seen["meta"] = self._new(*self.copy), self.copy[1]

    def restart_edge(self) -> None:
        self.meta, self.reader = self._new(*self._saved(self.meta)), self._new(*self._saved(self.reader))

    def lose_reader(self) -> None:
        """The reader starts with its rows but without their entries, as DeviceTwin does."""
        as_of = None if self.mutant.reader_forgets_as_of else self.reader.mark.as_of
        self.reader = self._new((), as_of)

    def restore(self) -> None:
        """Kubernetes goes back to a backup, and an operator says `resync`: the epoch rises (RULES 11)."""
        if self.kube.epoch < 2:
            self.kube.restore(self.rng.randint(0, self.kube.rev))

    # --- what must hold -----------------------------------------------------------------------------------------------
    def check(self) -> None:
        for who, follower in (("meta", self.meta), ("reader", self.reader)):
            as_of, seen = follower.mark.as_of, self.seen[who]
            if as_of is None:
                continue
            if older(as_of, seen):
                raise Violation(f"{who} went back from {seen} to {as_of}")
            self.seen[who] = as_of
            if follower.proven:
                self._equal(who, follower, as_of)

    def _equal(self, who: str, follower: Follower, as_of: AsOf) -> None:
        truth = self.kube.wanted(as_of.epoch, as_of.revisions)
        if {e.key: e for e in follower.entries} != {k: p.entry for k, p in truth.items()}:
            raise Violation(f"{who} is proven at {as_of} and is not what Kubernetes had then")

    def heal(self) -> None:
        """No fault any more: within a few passes everything is equal to the newest, and proven."""
        self.net.clear()
        for replica in self.replicas:
            replica.epoch, replica.at = self.kube.epoch, dict.fromkeys(KINDS, self.kube.rev)
        self._until_equal("meta", self.meta, lambda ask: self._serve(self.replicas[0], ask))
        self._until_equal("reader", self.reader, self._read_now)
        self.check()

    def _read_now(self, ask: PageAsk) -> PageAnswer:
        self._serve_reader(ask)
        return self.net.pop()[1]  # type: ignore[no-any-return]

    def _until_equal(self, who: str, follower: Follower, serve: Callable[[PageAsk], PageAnswer]) -> None:
        follower.begin()
        for _ in range(HEAL_PAGES):
            if not follower.passing:
                break
            self._take(follower, serve(follower.ask(PAGE)))
        newest = AsOf(epoch=self.kube.epoch, revisions=dict.fromkeys(KINDS, self.kube.rev))
        if follower.passing or not follower.proven or follower.mark.as_of != newest:
            raise Violation(f"{who} does not become equal")


# --- mutants ----------------------------------------------------------------------------------------------------------
class TakesOlder(Follower):
    """Without rule 1: a message is taken however old it is."""

    def judge(self, message: PageAnswer | Push) -> Change | None:
        mark = self.mark
        self.mark = replace(mark, as_of=None)
        try:
            return super().judge(message)
        finally:
            self.mark = mark


class JoinsKinds(Follower):
    """Without 'as a whole' of rule 1: what is fresh of each kind is taken, and as_of is joined kind by kind."""

    def judge(self, message: PageAnswer | Push) -> Change | None:
        mine, new = self.mark.as_of, message.as_of
        if mine is None or new is None or new.epoch != mine.epoch:
            return super().judge(message)
        fresh = {k for k in KINDS if new.revisions[k] >= mine.revisions[k]}
        joined = AsOf(epoch=new.epoch, revisions={k: max(new.revisions[k], mine.revisions[k]) for k in KINDS})
        puts = [p for p in message.puts if p.entry.kind in fresh]
        deletes = [k for k in message.deletes if k[0] in fresh]
        return super().judge(msgspec.structs.replace(message, puts=puts, deletes=deletes, as_of=joined))


class ComparesObjects(Follower):
    """Against rule 3: an object is put only over an older resourceVersion of it."""

    def judge(self, message: PageAnswer | Push) -> Change | None:
        def newer(put: Put) -> bool:
            old = self.entries.get(put.entry.key)
            return old is None or int(put.entry.digest) > int(old.digest)

        return super().judge(msgspec.structs.replace(message, puts=list(filter(newer, message.puts))))


class ProvesUnequal(Follower):
    """Without rule 8: every message proves."""

    def judge(self, message: PageAnswer | Push) -> Change | None:
        change = super().judge(message)
        return None if change is None else replace(change, proven=change.as_of)


class RefusesEpochs(Follower):
    """Without rule 12: a higher epoch with lower resourceVersions is refused."""

    def judge(self, message: PageAnswer | Push) -> Change | None:
        mine, new = self.mark.as_of, message.as_of
        if mine and new and any(new.revisions[k] < v for k, v in mine.revisions.items()):
            return None
        return super().judge(message)


class EndsAtTheLastPage(Follower):
    """Without rule 7: a pass ends at the last page, equal or not."""

    def after(self, message: PageAnswer | Push, change: Change | None) -> None:
        super().after(message, change)
        if isinstance(message, PageAnswer) and change is not None and message.next is None:
            self.mark = replace(self.mark, cursor=None)


class ForgetsRefusedAsks(Follower):
    """Without rule 2: a refused answer ends the pass."""

    def after(self, message: PageAnswer | Push, change: Change | None) -> None:
        super().after(message, change)
        if change is None:
            self.mark = replace(self.mark, cursor=None)
