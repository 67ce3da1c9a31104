"""A node's end of joining without a network, and streams in memory, for the tests of the shell."""

from dataclasses import dataclass, field
from typing import Any

from canopy.bus.streams import Value, WrongSequence
from canopy.identity import ids
from canopy.identity.joining_words import JoinAsk, RenewAsk, Token, join_bytes, renew_bytes, to_text
from canopy.identity.svid import make_csr, new_key, public_key, sign

TD = "canopy.test"


class Memory:
    """A stream of last values in memory: one contract with the real one (test_server_joining)."""

    def __init__(self) -> None:
        self.held: dict[str, Value] = {}
        self._seq = 0

    async def get(self, address: str) -> Value | None:
        return self.held.get(address)

    async def put(self, address: str, data: bytes, expect: int | None, trace: Any = None) -> int:
        held = self.held.get(address)
        if expect is not None and expect != (held.seq if held else 0):
            raise WrongSequence(address)
        self._seq += 1
        self.held[address] = Value(address, self._seq, data)
        return self._seq


@dataclass
class Machine:
    """A machine with a node's key."""

    node: str = "edge-1"
    key: bytes = field(default_factory=new_key)

    def csr(self, node: str = "", **more: Any) -> str:
        return make_csr(new_key(), ids.node(TD, node or self.node), **more).decode()

    def ask(self, token: Token | None = None, **changed: Any) -> JoinAsk:
        csr, public = changed.pop("csr", self.csr()), public_key(self.key).decode()
        once = token.id if token else changed.get("nonce", "")
        signature = to_text(sign(self.key, join_bytes(self.node, once, csr, public)))
        found = {"node": self.node, "csr": csr, "public_key": public, "signature": signature}
        if token:
            found |= {"token_id": token.id, "secret": token.secret}
        return JoinAsk(**(found | changed))

    def renewal(self, nonce: str, **changed: Any) -> RenewAsk:
        csr = changed.pop("csr", self.csr())
        signature = to_text(sign(self.key, renew_bytes(self.node, nonce, csr)))
        return RenewAsk(**({"node": self.node, "nonce": nonce, "csr": csr, "signature": signature} | changed))
