# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual media: where the drives are, how they take images, and what they hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcOptionError,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnsupported,
    Options,
    connect,
    media,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.media import same_image
from ansible_collections.kiban.baremetal.tests.unit.plugins import fake_bmc
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    MANAGER,
    SYSTEM,
    FakeBmc,
    Json,
    Reply,
    behave,
    collection,
    error,
    small_tree,
)

MakeBmc = Callable[..., FakeBmc]
A = "http://192.0.2.2:8080/a.iso"
B = "http://192.0.2.2:8080/b.iso"
CD = f"{MANAGER}/VirtualMedia/2"
INSERT = f"{CD}/Actions/VirtualMedia.InsertMedia"
EJECT = f"{CD}/Actions/VirtualMedia.EjectMedia"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "SETTLE", 1.0)


def client_of(bmc: FakeBmc, **changes: Any) -> Bmc:
    return connect(Options(**{**bmc.options, **changes}))


def run(client: Bmc, state: str, image: str | None, timeout: float = 10) -> list[str]:
    return client.media.apply(client.media.plan(state, image, "cd"), timeout)


def slots(count: int, *kinds: str, actions: bool = True) -> Json:
    """The small tree with drives that all look the same."""
    tree = small_tree()
    drives = f"{MANAGER}/VirtualMedia"
    uris = [f"{drives}/{number}" for number in range(1, count + 1)]
    tree[drives] = collection(drives, *uris)
    tree.update({uri: fake_bmc.media(uri, *kinds, actions=actions) for uri in uris})
    return tree


def test_only_the_cd_drive_is_used(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client:
        assert run(client, "inserted", A) == [f"inserted {A} in 2"]
        assert client.media.inserted() == [A]
    assert bmc.writes() == [f"POST {INSERT}"]
    assert bmc.calls[-3].body == {"Image": A}


@pytest.mark.parametrize("place", [SYSTEM, MANAGER])
@pytest.mark.parametrize("actions", [True, False])
def test_every_place_and_way(make_bmc: MakeBmc, place: str, actions: bool) -> None:
    bmc = behave(make_bmc(small_tree(media_under=place, media_actions=actions)))
    with client_of(bmc) as client:
        run(client, "inserted", A)
        assert client.media.plan("inserted", A, "cd").actions == []
        assert run(client, "inserted", B) == [f"ejected {A} from 2", f"inserted {B} in 2"]
        assert run(client, "ejected", None) == [f"ejected {B} from 2"]
        assert client.media.plan("ejected", None, "cd").actions == []
    assert len(bmc.writes()) == 4
    assert all(
        (" POST " not in line) is True and line.startswith("POST" if actions else "PATCH") for line in bmc.writes()
    )


def test_drives_of_managers_that_the_system_does_not_name(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    del tree[SYSTEM]["Links"]
    bmc = behave(make_bmc(tree))
    with client_of(bmc) as client:
        assert run(client, "inserted", A)


def test_an_ejection_may_name_the_image(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client:
        run(client, "inserted", A)
        assert client.media.plan("ejected", B, "cd").actions == []
        assert run(client, "ejected", A) == [f"ejected {A} from 2"]


def test_the_image_becomes_the_only_one(make_bmc: MakeBmc) -> None:
    bmc = behave(make_bmc(slots(3, "CD", "USBStick")))
    bmc.resource(f"{MANAGER}/VirtualMedia/1").update(Image=B, Inserted=True)
    bmc.resource(f"{MANAGER}/VirtualMedia/3").update(Image=A, Inserted=True)
    with client_of(bmc) as client:
        assert run(client, "inserted", A) == [f"ejected {B} from 1"]
        assert client.media.inserted() == [A]


def test_a_drive_that_refuses_leaves_it_to_the_next(make_bmc: MakeBmc) -> None:
    bmc = behave(make_bmc(slots(2, "CD")))
    bmc.on("POST", f"{MANAGER}/VirtualMedia/1/Actions/VirtualMedia.InsertMedia", error(405, "X.1.No", "kvm only"))
    with client_of(bmc) as client:
        assert run(client, "inserted", A) == [f"inserted {A} in 2"]


def test_all_drives_refuse(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", INSERT, error(400, "X.1.No", "cannot fetch it"))
    with client_of(bmc) as client, pytest.raises(BmcRefused, match="cannot fetch it") as caught:
        run(client, "inserted", A)
    assert A in caught.value.hint
    assert len(bmc.writes()) == 1


def test_what_was_done_is_told_when_the_rest_fails(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(CD).update(Image=B, Inserted=True)
    bmc.on("POST", INSERT, error(400, "X.1.No", "cannot fetch it"))
    with client_of(bmc) as client, pytest.raises(BmcRefused) as caught:
        run(client, "inserted", A)
    assert caught.value.done == [f"ejected {B} from 2"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("TransferProtocolType", "HTTP"), ("TransferMethod", "Stream"), ("UserName", ""), ("Inserted", True)],
)
def test_a_parameter_that_the_bmc_demands_is_added(make_bmc: MakeBmc, parameter: str, value: Any) -> None:
    bmc = make_bmc()
    bmc.on("POST", INSERT, error(400, "Base.1.8.ActionParameterMissing", "incomplete", MessageArgs=["X", parameter]))
    with client_of(bmc) as client:
        run(client, "inserted", A)
    bodies = [call.body for call in bmc.calls if call.path == INSERT]
    assert bodies == [{"Image": A}, {"Image": A, parameter: value}]


def test_the_quirk_table_adds_parameters(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Manufacturer"] = "Nokia"
    bmc.resource(SYSTEM)["@Redfish.Settings"] = None
    with client_of(bmc) as client:
        run(client, "inserted", A)
    assert [call.body for call in bmc.calls if call.path == INSERT] == [{"Image": A, "TransferProtocolType": "HTTP"}]


def test_only_some_drives_take_urls(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    tree["/redfish/v1"]["Vendor"] = "Lenovo"
    drives = f"{MANAGER}/VirtualMedia"
    names = [f"{drives}/{name}" for name in ("RDOC1", "Remote1", "EXT1")]
    tree[drives] = collection(drives, *names)
    tree.update({uri: fake_bmc.media(uri, "CD", "DVD", actions=False) for uri in names})
    bmc = behave(make_bmc(tree))
    with client_of(bmc) as client:
        assert run(client, "inserted", A) == [f"inserted {A} in EXT1"]
    assert bmc.writes() == [f"PATCH {drives}/EXT1"]
    assert bmc.calls[-3].body == {"Image": A, "Inserted": True}


def test_a_lost_answer_is_settled_by_what_the_drive_holds(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def cut(call: Any) -> Reply:
        bmc.resource(CD).update(Image=call.body["Image"], Inserted=True)
        return Reply(drop=True)

    bmc.on("POST", INSERT, cut)
    with client_of(bmc) as client:
        assert run(client, "inserted", A) == [f"inserted {A} in 2"]
    assert len(bmc.writes()) == 1


def test_a_lost_answer_without_effect(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", INSERT, Reply(drop=True))
    with client_of(bmc) as client, pytest.raises(BmcUncertain, match="sent once"):
        run(client, "inserted", A, timeout=1)
    assert len(bmc.writes()) == 1


def test_success_without_effect_is_a_failure(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", INSERT, Reply(204))
    with client_of(bmc) as client, pytest.raises(BmcTimeout, match="does not show"):
        run(client, "inserted", A, timeout=1)


def test_a_busy_bmc_is_asked_again_after_reading(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("POST", INSERT, Reply(503, None, {"Retry-After": "0"}))
    with client_of(bmc) as client:
        run(client, "inserted", A)
    tail = [str(call) for call in bmc.calls if call.path in (INSERT, CD)]
    assert tail[-4:] == [f"POST {INSERT}", f"GET {CD}", f"POST {INSERT}", f"GET {CD}"]


def test_an_ejection_that_takes_time(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(CD).update(Image=A, Inserted=True)

    def gone(_call: Any) -> None:
        bmc.resource(CD).update(Image=None, Inserted=False)

    bmc.on("POST", EJECT, Reply(204))
    with client_of(bmc) as client:
        plan = client.media.plan("ejected", None, "cd")
        bmc.on("GET", CD, lambda _call: None, gone)
        assert client.media.apply(plan, 10) == [f"ejected {A} from 2"]


def test_half_an_insertion_is_taken_back(make_bmc: MakeBmc) -> None:
    """The BMC fails, but shows the image: the next run must not take that for success."""
    bmc = make_bmc()

    def half(call: Any) -> Reply:
        bmc.resource(CD).update(Image=call.body["Image"], Inserted=True)
        return error(500, "X.1.Half", "the server does not see it")

    bmc.on("POST", INSERT, half)
    with client_of(bmc) as client, pytest.raises(BmcRefused, match="does not see it"):
        run(client, "inserted", A)
    assert bmc.resource(CD)["Image"] is None


@pytest.mark.parametrize("image", ["a.iso", "/srv/a.iso", ""])
def test_what_is_no_url_is_refused_before_anything_is_sent(make_bmc: MakeBmc, image: str) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client, pytest.raises(BmcOptionError, match="not a URL"):
        client.media.plan("inserted", image, "cd")


def test_no_drive_at_all(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    del tree[MANAGER]["VirtualMedia"]
    bmc = make_bmc(tree)
    with client_of(bmc) as client:
        assert client.status()["media"] == []
        with pytest.raises(BmcUnsupported, match="no virtual cd drive"):
            client.media.plan("inserted", A, "cd")


def test_drives_that_offer_no_way(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(CD).pop("Actions")
    bmc.resource(CD).pop("Image")
    with client_of(bmc) as client, pytest.raises(BmcUnsupported, match="by URL"):
        client.media.plan("inserted", A, "cd")


@pytest.mark.parametrize(
    ("properties", "image"),
    [
        ({"Image": A, "Inserted": True}, A),
        ({"Image": A, "Inserted": False}, None),  # some keep the name after an ejection
        ({"Image": A, "Inserted": None}, A),  # old ones do not tell
        ({"Image": "", "ImageName": "a.iso", "Inserted": True}, "a.iso"),
        ({"Image": None, "ImageName": "a.iso", "Inserted": False}, None),
        ({"Image": None, "Inserted": None}, None),
    ],
)
def test_what_a_drive_holds(make_bmc: MakeBmc, properties: Json, image: str | None) -> None:
    bmc = make_bmc()
    bmc.resource(CD).update(properties)
    with client_of(bmc) as client:
        assert [slot.image for slot in client.media.slots("cd")] == [image]


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (A, True),
        ("HTTP://192.0.2.2:8080/a.iso", True),
        ("http://user:secret@192.0.2.2:8080/a.iso", True),
        ("a.iso", True),
        (B, False),
        ("b.iso", False),
        ("http://192.0.2.2:8081/a.iso", False),
        ("http://192.0.2.2:8080/A.iso", False),
        (None, False),
    ],
)
def test_the_same_image(shown: str | None, same: bool) -> None:
    assert same_image(A, shown) is same


def test_urls_that_differ_in_form_only() -> None:
    assert same_image("https://images.example.net/a%20b.iso", "https://images.example.net:443/a b.iso")


def test_credentials_in_a_url_are_not_shown(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    secret = "http://user:canary-pw@192.0.2.2/a.iso"
    bmc.on("POST", INSERT, error(400, "X.1.No", f"cannot fetch {secret}"))
    with client_of(bmc) as client:
        assert "canary" not in repr(client.media.plan("inserted", secret, "cd").actions)
        with pytest.raises(BmcRefused) as caught:
            run(client, "inserted", secret)
        assert "canary" not in f"{caught.value} {caught.value.as_dict()}"
        assert "canary" not in repr(run(client, "inserted", secret))
        assert "canary" not in repr(client.status())
