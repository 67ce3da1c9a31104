"""What is pushed brings a node from the set before to the set of now."""

from msgspec import Raw

from canopy.contracts.devices import DEVICE
from canopy.contracts.wire import MAX_BODY_BYTES, AsOf, Entry, Put, encode
from canopy.devicecontroller.objects import Seen
from canopy.devicecontroller.placement import Placement
from canopy.devicecontroller.pushes import MOST_PUSHES, Pending, pushes
from canopy.sync.down import Follower

AS_OF = AsOf(epoch=1, revisions={"Device": 7, "DeviceModel": 3})


def device(name, node="a", size=10):
    entry = Entry(DEVICE, "default", name, "u", "0" * 16)
    return Seen(DEVICE, "default", name, "u", 1, 1, size, Put(entry, Raw(b'"' + b"x" * size + b'"')), node)


def test_a_moved_device_is_a_delete_here_and_a_put_there():
    p, pending = Placement(), Pending()
    p.put(device("d"))
    pending.add(p.put(device("d", "b")))
    made = {}
    while pending:
        node, keys = pending.take()
        made[node] = pushes(p, node, keys, AS_OF, "c")
    (to_a,), (to_b,) = made["a"], made["b"]
    assert to_a.deletes == [(DEVICE, "default", "d")] and not to_a.puts and to_a.hash == "0" * 16
    assert [x.entry.name for x in to_b.puts] == ["d"] and not to_b.deletes and to_b.hash == p.set_of("b").hash


def test_several_pushes_bear_one_hash_and_the_last_one_proves():
    p, follower = Placement(), Follower()
    touched = [k for i in range(5) for _, k in p.put(device(f"d{i}", size=90_000))]
    made = pushes(p, "a", touched, AS_OF, "c")
    assert 1 < len(made) <= MOST_PUSHES and len({m.hash for m in made}) == 1
    for message in made:
        assert len(encode(message)) <= MAX_BODY_BYTES
        follower.commit(follower.judge(message))
    assert follower.proven


def test_too_much_for_pushes_becomes_one_that_makes_the_node_ask_for_a_page():
    p, follower = Placement(), Follower()
    follower.mark = type(follower.mark)(None, None, None)
    touched = [k for i in range(50) for _, k in p.put(device(f"d{i}", size=90_000))]
    (message,) = pushes(p, "a", touched, AS_OF, "c")
    change = follower.judge(message)
    follower.commit(change)
    follower.after(message, change)
    assert not message.puts and follower.passing


def test_a_push_without_keys_says_the_hash_alone():
    p = Placement()
    p.put(device("d"))
    (message,) = pushes(p, "a", (), AS_OF, "c")
    assert message.hash == p.set_of("a").hash and not message.puts and not message.deletes


def test_nobody_is_pushed_before_who_waits_longer():
    pending = Pending()
    pending.add([("b", ("k", "", "1")), ("a", ("k", "", "1")), ("b", ("k", "", "2"))])
    assert pending.take() == ("b", {("k", "", "1"), ("k", "", "2")})
    assert pending.take()[0] == "a" and not pending
