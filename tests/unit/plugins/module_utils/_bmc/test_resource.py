# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections with and without $expand, ETags, and which system is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcDenied,
    BmcRefused,
    BmcUnsupported,
    Options,
    connect,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import (
    MANAGER,
    SYSTEM,
    FakeBmc,
    Json,
    Reply,
    error,
    reference,
    resource,
    small_tree,
)

MakeBmc = Callable[..., FakeBmc]
MEDIA = f"{MANAGER}/VirtualMedia"


def client_of(bmc: FakeBmc, **changes: Any) -> Bmc:
    return connect(Options(**{**bmc.options, **changes}))


def gets(bmc: FakeBmc) -> list[str]:
    return [line.removeprefix("GET ") for line in bmc.sent("GET")]


def test_expand_reads_a_collection_in_one_request(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(small_tree(expand=True), expand="right")
    with client_of(bmc) as client:
        found = client.status()
    assert found["model"] == "M1"
    assert gets(bmc) == [
        "/redfish/v1/",
        "/redfish/v1/Systems?$expand=.($levels=1)",
        MANAGER,
        f"{MEDIA}?$expand=.($levels=1)",
    ]
    assert found["requests"] == 5  # and the login; the logout comes after


@pytest.mark.parametrize("lie", ["ignored", "cut", "short", "error"])
def test_an_expand_that_does_not_tell_the_truth_is_found_out_and_remembered(make_bmc: MakeBmc, lie: str) -> None:
    bmc = make_bmc(small_tree(expand=True), expand=lie)
    bmc.resource(f"{MEDIA}/2").update(Image="http://192.0.2.2/a.iso", Inserted=True)
    with client_of(bmc) as client:
        found = client.status()
    assert found["media"] == ["http://192.0.2.2/a.iso"]
    assert found["model"] == "M1"
    assert any("$expand" in note for note in client.notes)
    first = len([uri for uri in gets(bmc) if "$expand" in uri])
    assert first == 2
    with client_of(bmc) as client:
        assert client.status()["media"] == ["http://192.0.2.2/a.iso"]
    assert len([uri for uri in gets(bmc) if "$expand" in uri]) == first, "the lie was forgotten"


def test_a_busy_bmc_is_not_called_a_liar(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(small_tree(expand=True), expand="right")
    bmc.on("GET", "/redfish/v1/Systems", *[Reply(503, None, {"Retry-After": "99"})])
    with client_of(bmc, timeout=5) as client:
        assert client.status(media=False)["model"] == "M1"
        assert client.notes == []


def test_expand_is_asked_as_it_is_advertised(make_bmc: MakeBmc) -> None:
    tree = small_tree(expand=True)
    query = {"NoLinks": False, "ExpandAll": True, "Links": False, "Levels": False, "MaxLevels": 1}
    tree["/redfish/v1"]["ProtocolFeaturesSupported"]["ExpandQuery"] = query
    bmc = make_bmc(tree, expand="right")
    with client_of(bmc) as client:
        client.status(media=False)
    assert gets(bmc)[1] == "/redfish/v1/Systems?$expand=*"


@pytest.mark.parametrize("expand", [True, False])
def test_pages_of_a_collection_are_followed(make_bmc: MakeBmc, expand: bool) -> None:
    tree = small_tree(expand=expand)
    page: Json = dict(tree[MEDIA])
    tree[MEDIA] = {**page, "Members": [reference(f"{MEDIA}/1")], "Members@odata.nextLink": f"{MEDIA}/more"}
    tree[f"{MEDIA}/more"] = {**page, "Members": [reference(f"{MEDIA}/2")]}
    bmc = make_bmc(tree, expand="right")
    with client_of(bmc) as client:
        assert [slot.name for slot in client.media.slots()] == ["1", "2"]


@pytest.mark.parametrize("members", [None, [], "rubbish"])
def test_members_that_are_none(make_bmc: MakeBmc, members: Any) -> None:
    tree = small_tree()
    tree[MEDIA]["Members"] = members
    bmc = make_bmc(tree)
    with client_of(bmc) as client:
        assert client.status()["media"] == []


def test_a_member_that_cannot_be_read_is_left_out_and_noted(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", f"{MEDIA}/1", error(500, "X.1.Broken", "broken inside"))
    with client_of(bmc) as client:
        assert [slot.name for slot in client.media.slots()] == ["2"]
    assert any("broken inside" in note for note in client.notes)


def test_nothing_is_read_twice(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client:
        client.status()
        client.status()
        client.media.slots()
    assert len(gets(bmc)) == len(set(gets(bmc)))


def test_a_system_that_cannot_be_read_is_not_taken_for_none(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, *[error(500, "X.1.Broken", "broken inside")] * 2)
    with pytest.raises(BmcRefused, match="broken inside"), client_of(bmc) as client:
        client.power.read()
    other = make_bmc()
    other.on("GET", "/redfish/v1/Systems", error(403, "Base.1.8.InsufficientPrivilege", "no"))
    with pytest.raises(BmcDenied), client_of(other) as client:
        client.power.read()


def test_what_cannot_be_switched_is_no_server(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    extra = "/redfish/v1/Systems/Capabilities"
    tree[extra] = resource(extra, "ComputerSystem")
    tree["/redfish/v1/Systems"]["Members"].insert(0, reference(extra))
    tree["/redfish/v1/Systems"]["Members@odata.count"] = 2
    bmc = make_bmc(tree)
    with client_of(bmc) as client:
        assert client.status(media=False)["model"] == "M1"


def test_several_servers_behind_one_bmc_have_to_be_named(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    second = "/redfish/v1/Systems/2"
    tree[second] = {**tree[SYSTEM], "@odata.id": second, "Id": "2", "Model": "M2"}
    tree["/redfish/v1/Systems"]["Members"].append(reference(second))
    tree["/redfish/v1/Systems"]["Members@odata.count"] = 2
    bmc = make_bmc(tree)
    with pytest.raises(BmcUnsupported) as caught, client_of(bmc) as client:
        client.power.read()
    assert SYSTEM in str(caught.value) and second in str(caught.value)
    with client_of(bmc, address=f"https://{bmc.address}{second}") as client:
        assert client.status(media=False)["model"] == "M2"


def test_no_systems_at_all(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    del tree["/redfish/v1"]["Systems"]
    bmc = make_bmc(tree)
    with pytest.raises(BmcUnsupported, match="no Systems"), client_of(bmc) as client:
        client.power.read()


def test_uris_in_another_case_are_served(make_bmc: MakeBmc) -> None:
    tree = small_tree()
    tree["/redfish/v1"]["Systems"] = reference("/redfish/v1/systems/")
    bmc = make_bmc(tree, any_case=True)
    with client_of(bmc) as client:
        assert client.status()["model"] == "M1"


def test_a_patch_carries_the_etag_that_was_read(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(etags=True)
    with client_of(bmc) as client:
        client.resources.system()
        client.resources.patch(SYSTEM, {"Boot": {"BootSourceOverrideTarget": "Pxe"}})
    assert bmc.resource(SYSTEM)["Boot"]["BootSourceOverrideTarget"] == "Pxe"
    assert len(bmc.writes()) == 1


def test_after_412_the_resource_is_read_again(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(etags=True)
    with client_of(bmc) as client:
        client.resources.system()
        bmc.resource(SYSTEM)["AssetTag"] = "changed by somebody else"
        client.resources.patch(SYSTEM, {"Boot": {"BootSourceOverrideTarget": "Pxe"}})
    assert [call.method for call in bmc.calls[-4:]] == ["PATCH", "GET", "PATCH", "DELETE"]


def test_a_weak_etag_is_sent_as_a_strong_one_where_that_is_wanted(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["@odata.etag"] = 'W/"abc"'
    seen: list[str | None] = []

    def picky(call: Any) -> Reply:
        seen.append(call.headers.get("if-match"))
        return Reply(204) if seen[-1] == '"abc"' else error(412, "Base.1.8.PreconditionFailed", "no")

    bmc.patches[SYSTEM] = picky
    with client_of(bmc) as client:
        client.resources.system()
        client.resources.patch(SYSTEM, {"AssetTag": "x"})
    assert seen == ['W/"abc"', '"abc"']


def test_a_bmc_that_hands_out_etags_and_takes_none(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["@odata.etag"] = '"abc"'
    bmc.patches[SYSTEM] = lambda call: Reply(204) if "if-match" not in call.headers else error(412, "X.1.P", "no")
    with client_of(bmc) as client:
        client.resources.system()
        client.resources.patch(SYSTEM, {"AssetTag": "x"})
    assert len(bmc.writes()) == 2


@pytest.mark.parametrize("empty", ["", '""'])
def test_an_empty_etag_is_none(make_bmc: MakeBmc, empty: str) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["@odata.etag"] = empty
    with client_of(bmc) as client:
        client.resources.system()
        assert client.resources.etag(SYSTEM) is None


def test_actions_never_carry_an_etag(make_bmc: MakeBmc) -> None:
    bmc = make_bmc(etags=True)
    with client_of(bmc) as client:
        client.power.apply(client.power.plan("on"), 10)
    assert all("if-match" not in call.headers for call in bmc.calls if call.method == "POST")
