"""What every Authority holds to, one function a sentence. The tests of `builtin` and of the real SPIRE run all of them.

Each takes an authority and makes names of its own, so that they may share one and run in any order.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from canopy.identity import ids
from canopy.identity.authority import Authority, AuthorityRefused, Entry
from canopy.identity.svid import Svid, Untrusted, certificates, make_csr, new_key, verify_chain

SLACK_SECONDS = 2.0
"""Certificates count whole seconds, and the real authority is another process."""

Holds = Callable[[Authority, str], Awaitable[None]]


async def an_svid_names_who_was_decided_on_and_is_believed(authority: Authority, td: str) -> None:
    key, id = new_key(), ids.node(td, "edge-1")
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=60)
    svid = Svid.of(minted.chain_pem, key)
    assert svid.id == id
    assert verify_chain(minted.chain_pem, await authority.bundle(), time.time()) == id
    assert svid.not_after == minted.not_after <= time.time() + 60 + SLACK_SECONDS
    assert svid.not_before <= time.time()


async def two_svids_of_one_key_have_serials_of_their_own(authority: Authority, td: str) -> None:
    key, id = new_key(), ids.node(td, "edge-2")
    first, second = [await authority.mint(make_csr(key, id), id, ttl_seconds=60) for _ in range(2)]
    assert Svid.of(first.chain_pem, key).serial != Svid.of(second.chain_pem, key).serial


async def a_server_gets_its_dns_names_and_nobody_else_any(authority: Authority, td: str) -> None:
    from cryptography.x509 import DNSName, SubjectAlternativeName

    key, id = new_key(), ids.hub(td)
    named = await authority.mint(make_csr(key, id, ("hub.example",)), id, ttl_seconds=60, dns=("hub.example",))
    plain = await authority.mint(make_csr(key, ids.node(td, "edge-3")), ids.node(td, "edge-3"), ttl_seconds=60)
    found = [
        certificates(one.chain_pem)[0].extensions.get_extension_for_class(SubjectAlternativeName).value
        for one in (named, plain)
    ]
    assert [names.get_values_for_type(DNSName) for names in found] == [["hub.example"], []]


async def what_the_csr_asks_for_and_was_not_decided_is_refused(authority: Authority, td: str) -> None:
    key, id = new_key(), ids.node(td, "edge-4")
    await _refused(authority, make_csr(key, ids.hub(td)), id)
    await _refused(authority, make_csr(key, id, ("hub.example",)), id)
    await _refused(authority, make_csr(key, ids.node("other.test", "edge-4")), ids.node("other.test", "edge-4"))
    await _refused(authority, b"junk", id)


async def a_bundle_is_of_its_own_domain_and_believes_no_stranger(authority: Authority, td: str) -> None:
    bundle = await authority.bundle()
    assert bundle.trust_domain == td and bundle.roots_pem
    assert type(bundle).read(bundle.pem) == bundle, "the file says what the authority said"
    key, id = new_key(), ids.node(td, "edge-5")
    chain = (await authority.mint(make_csr(key, id), id, ttl_seconds=60)).chain_pem
    try:
        verify_chain(chain, bundle, time.time() + 3600)
    except Untrusted as e:
        assert "expired" in str(e)
    else:
        raise AssertionError("an SVID of 60 s is believed after an hour")


async def entries_are_put_replaced_and_removed(authority: Authority, td: str) -> None:
    id, parent = ids.cloud(td, "cloudhub"), ids.node(td, "agent-1")
    entry = Entry(id, parent, ("unix:uid:1000",), (), 60)
    await authority.put(entry)
    assert entry in await authority.entries()
    changed = Entry(id, parent, ("unix:gid:7", "unix:uid:1001"), (), 120)
    await authority.put(changed)
    assert [one for one in await authority.entries() if one.id == id] == [changed]
    await authority.put(Entry(ids.hub(td), parent, ("unix:uid:1",), ("hub.example",), 60))
    listed = await authority.entries()
    assert [str(one.id) for one in listed] == sorted(str(one.id) for one in listed)
    await authority.remove(id)
    await authority.remove(id)
    assert id not in [one.id for one in await authority.entries()]
    await authority.remove(ids.hub(td))


async def many_ask_at_once_and_each_gets_its_own(authority: Authority, td: str) -> None:
    async def one(number: int) -> None:
        key, id = new_key(), ids.node(td, f"many-{number}")
        minted = await authority.mint(make_csr(key, id), id, ttl_seconds=60)
        assert Svid.of(minted.chain_pem, key).id == id

    await asyncio.gather(*(one(n) for n in range(20)))


async def _refused(authority: Authority, csr_pem: bytes, id: ids.SpiffeId) -> None:
    try:
        await authority.mint(csr_pem, id, ttl_seconds=60)
    except AuthorityRefused:
        return
    raise AssertionError(f"{id} was minted")


CONTRACT: tuple[Holds, ...] = (
    an_svid_names_who_was_decided_on_and_is_believed,
    two_svids_of_one_key_have_serials_of_their_own,
    a_server_gets_its_dns_names_and_nobody_else_any,
    what_the_csr_asks_for_and_was_not_decided_is_refused,
    a_bundle_is_of_its_own_domain_and_believes_no_stranger,
    entries_are_put_replaced_and_removed,
    many_ask_at_once_and_each_gets_its_own,
)
