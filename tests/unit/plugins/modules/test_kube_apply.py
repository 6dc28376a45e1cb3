# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import kube_apply
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_kubectl import Call, FakeKubectl

RunModule = Callable[..., dict[str, Any]]

SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": {"x": "1"}}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "shop"},
    "stringData": {"password": "canary-hunter2"},
}
CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.x.io"}}

DIFF_CONFIG = """\
diff -u -N /tmp/LIVE-1/v1.ConfigMap.shop.c /tmp/MERGED-2/v1.ConfigMap.shop.c
--- /tmp/LIVE-1/v1.ConfigMap.shop.c\t2026-01-01 00:00:00.000000000 +0000
+++ /tmp/MERGED-2/v1.ConfigMap.shop.c\t2026-01-01 00:00:00.000000000 +0000
@@ -1,6 +1,6 @@
 apiVersion: v1
 data:
-  x: "0"
+  x: "1"
 kind: ConfigMap
"""
DIFF_SPACE = """\
diff -u -N /tmp/LIVE-1/v1.Namespace..shop /tmp/MERGED-2/v1.Namespace..shop
--- /tmp/LIVE-1/v1.Namespace..shop\t2026-01-01 00:00:00.000000000 +0000
+++ /tmp/MERGED-2/v1.Namespace..shop\t2026-01-01 00:00:00.000000000 +0000
@@ -0,0 +1,2 @@
+kind: Namespace
+metadata:
"""
SSA = ("--server-side", "--field-manager=kiban", "--force-conflicts=false", "--filename=-")
NO_NAMESPACE = 'Error from server (NotFound): namespaces "shop" not found\n'


@pytest.fixture
def kubectl(tmp_path: Path) -> Callable[..., FakeKubectl]:
    return lambda *calls: FakeKubectl(tmp_path / "fake", *calls)


Make = Callable[..., FakeKubectl]


def sent(call: dict[str, Any]) -> list[dict[str, Any]]:
    return list(json.loads(call["stdin"])["items"])


def test_nothing_differs_nothing_is_applied(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff", *SSA)))
    result = run_module(kube_apply, diff_mode=True, manifests=[CONFIG], **fake.options)
    assert result["changed"] is False
    assert result["objects"] == []
    assert result["diff"] == {"prepared": ""}
    fake.assert_all_made()
    assert sent(fake.calls[0]) == [CONFIG]


def test_what_differs_is_applied_and_shown(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff", *SSA), out=DIFF_CONFIG, rc=1), Call(("apply", *SSA)))
    result = run_module(kube_apply, diff_mode=True, manifests=[CONFIG], **fake.options)
    assert result["changed"] is True
    assert result["objects"] == [{"kind": "ConfigMap", "namespace": "shop", "name": "c", "action": "configured"}]
    assert result["diff"]["prepared"] == (
        "--- v1.ConfigMap.shop.c (live)\n+++ v1.ConfigMap.shop.c (wanted)\n"
        '@@ -1,6 +1,6 @@\n apiVersion: v1\n data:\n-  x: "0"\n+  x: "1"\n kind: ConfigMap\n'
    )
    fake.assert_all_made()
    assert sent(fake.calls[1]) == [CONFIG]


def test_check_mode_only_compares(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff", *SSA), out=DIFF_CONFIG, rc=1))
    result = run_module(kube_apply, check_mode=True, manifests=[CONFIG], **fake.options)
    assert result["changed"] is True
    assert "diff" not in result
    fake.assert_all_made()


def test_namespaces_come_first_wherever_they_stand(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(
        Call(("diff",), out=DIFF_SPACE, rc=1),
        Call(("apply",)),
        Call(("diff",), out=DIFF_CONFIG, rc=1),
        Call(("apply",)),
    )
    result = run_module(kube_apply, manifests=[CONFIG, SPACE], **fake.options)
    assert [(entry["kind"], entry["action"]) for entry in result["objects"]] == [
        ("Namespace", "created"),
        ("ConfigMap", "configured"),
    ]
    fake.assert_all_made()
    assert [sent(call) for call in fake.calls] == [[SPACE], [SPACE], [CONFIG], [CONFIG]]


def test_a_new_kind_is_waited_for(kubectl: Make, run_module: RunModule) -> None:
    name = "/MERGED-2/apiextensions.k8s.io.v1.CustomResourceDefinition..foos.x.io"
    diff = f"diff -u -N a b\n--- {name}\tx\n+++ {name}\tx\n@@ -0,0 +1,1 @@\n+kind: x\n"
    fake = kubectl(
        Call(("diff",), out=diff, rc=1),
        Call(("apply",)),
        Call(("wait", "--for=condition=Established", "--timeout=180s", "crd/foos.x.io")),
    )
    assert run_module(kube_apply, manifests=[CRD], **fake.options)["changed"] is True
    fake.assert_all_made()


def test_check_mode_predicts_what_a_missing_namespace_hides(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(
        Call(("diff",), out=DIFF_SPACE, rc=1),
        Call(("diff",), err=NO_NAMESPACE, rc=2),
        Call(("diff",), err=NO_NAMESPACE, rc=2),
        Call(("diff",), err=NO_NAMESPACE, rc=2),
    )
    result = run_module(kube_apply, check_mode=True, diff_mode=True, manifests=[SPACE, CONFIG, SECRET], **fake.options)
    assert [(entry["kind"], entry["action"]) for entry in result["objects"]] == [
        ("Namespace", "created"),
        ("ConfigMap", "created"),
        ("Secret", "created"),
    ]
    assert "canary" not in json.dumps(result)
    assert '+    "password": "********"' in result["diff"]["prepared"]
    fake.assert_all_made()


def test_a_missing_namespace_is_an_error_in_a_real_run(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff",), err=NO_NAMESPACE, rc=2))
    result = run_module(kube_apply, manifests=[CONFIG], **fake.options)
    assert result["msg"] == 'Error from server (NotFound): namespaces "shop" not found'


SECRET_NAME = "/M/v1.Secret.shop.s\tx"
SECRET_DIFF = f"""\
diff -u -N a b
--- {SECRET_NAME}
+++ {SECRET_NAME}
@@ -1,9 +1,12 @@
 apiVersion: v1
 data:
-  password: '*** (before)'
+  password: '*** (after)'
+  more: Y2FuYXJ5LXNlY3JldA==
 kind: Secret
 metadata:
   annotations:
     kubectl.kubernetes.io/last-applied-configuration: |
-      {{"stringData":{{"password":"canary-old"}}}}
+      {{"stringData":{{"password":"canary-new"}}}}
   name: s
   namespace: shop
"""


def test_no_secret_value_in_a_diff(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff",), out=SECRET_DIFF, rc=1), Call(("apply",)))
    result = run_module(kube_apply, diff_mode=True, manifests=[SECRET], **fake.options)
    assert "canary" not in json.dumps(result)
    assert "Y2FuYXJ5" not in json.dumps(result)
    assert result["diff"]["prepared"].splitlines()[3:] == [
        " apiVersion: v1",
        " data:",
        "-  password: '*** (before)'",
        "+  password: '*** (after)'",
        "+  more: ********",
        " kind: Secret",
        " metadata:",
        "   annotations:",
        "     kubectl.kubernetes.io/last-applied-configuration: ********",
        "-********",
        "+********",
        "   name: s",
        "   namespace: shop",
    ]


def test_secrets_are_neither_in_the_command_line_nor_in_an_error(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff",), err='Error from server: cannot read "canary-hunter2" at line 1\n', rc=2))
    result = run_module(kube_apply, manifests=[SECRET], **fake.options)
    assert result["msg"] == 'Error from server: cannot read "********" at line 1'
    assert "canary" not in json.dumps(result)
    assert "canary" not in json.dumps(fake.calls[0]["args"])
    assert "canary" not in json.dumps(fake.calls[0]["env"])


def test_a_busy_server_is_asked_again(kubectl: Make, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refused = "The connection to the server 198.51.100.11:6443 was refused: connect: connection refused\n"
    fake = kubectl(
        Call(("diff",), err=refused, rc=1),
        Call(("diff",), err="etcdserver: request timed out\n", rc=2),
        Call(("diff",)),
    )
    # A refused connection ends kubectl diff with 1 as a difference does, but without one on standard output.
    result = run_module(kube_apply, manifests=[CONFIG], **fake.options)
    assert result["changed"] is False
    fake.assert_all_made()


def test_a_silent_server_is_named_with_the_kubeconfig(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff",), err="dial tcp: connect: connection refused\n", rc=2, again=True))
    result = run_module(kube_apply, manifests=[CONFIG], timeout=1, **fake.options)
    assert f"did not answer within 1 s (kubeconfig {fake.kubeconfig})" in result["msg"]


def test_check_mode_of_a_silent_server_predicts_and_warns(
    kubectl: Make, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(kube_apply.AnsibleModule, "warn", lambda module, text: warnings.append(text))
    monkeypatch.setattr(kube_apply, "CHECK_TIMEOUT", 1)
    fake = kubectl(Call(("diff",), err="dial tcp: connect: connection refused\n", rc=2, again=True))
    result = run_module(kube_apply, check_mode=True, manifests=[CONFIG], **fake.options)
    assert result["changed"] is True
    assert "Every object counts as missing" in warnings[0]


def test_without_a_kubeconfig(kubectl: Make, run_module: RunModule, tmp_path: Path) -> None:
    fake = kubectl()
    options = {**fake.options, "kubeconfig": str(tmp_path / "none")}
    assert "the cluster is not formed yet" in run_module(kube_apply, manifests=[CONFIG], **options)["msg"]
    assert run_module(kube_apply, check_mode=True, manifests=[CONFIG], **options)["changed"] is True
    absent = run_module(kube_apply, check_mode=True, manifests=[CONFIG], state="absent", **options)
    assert absent["changed"] is False
    assert fake.calls == []


CONFLICT = (
    'Error from server (Conflict): Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.x\n'
    "Please review the fields above--they currently have other managers.\n"
)


def test_a_conflict_says_what_to_do(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff",), err=CONFLICT, rc=2))
    message = run_module(kube_apply, manifests=[CONFIG], **fake.options)["msg"]
    assert 'conflict with "kubectl-edit" using v1: .data.x' in message
    assert "force_conflicts" in message


def test_conflicts_are_forced_on_demand(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("diff", "--force-conflicts=true")))
    assert not run_module(kube_apply, manifests=[CONFIG], force_conflicts=True, **fake.options)["failed"]


def test_absent_removes_what_is_there_in_reverse(kubectl: Make, run_module: RunModule) -> None:
    unknown = 'error: resource mapping not found: no matches for kind "Foo" in version "x.io/v1"\n'
    foo = {"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "f"}}
    fake = kubectl(
        Call(("get", "--ignore-not-found"), err=unknown, rc=1),
        Call(("get", "--ignore-not-found"), out="configmap/c\n"),
        Call(("get", "--ignore-not-found"), out="namespace/shop\n"),
        Call(("delete", "--ignore-not-found", "--wait", "--timeout=90s")),
    )
    result = run_module(kube_apply, state="absent", manifests=[SPACE, CONFIG, foo], timeout=90, **fake.options)
    assert [(entry["kind"], entry["action"]) for entry in result["objects"]] == [
        ("ConfigMap", "deleted"),
        ("Namespace", "deleted"),
    ]
    fake.assert_all_made()
    assert sent(fake.calls[3]) == [CONFIG, SPACE]


def test_absent_of_what_is_not_there_changes_nothing(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get",)))
    assert run_module(kube_apply, state="absent", manifests=[CONFIG], **fake.options)["changed"] is False
    fake.assert_all_made()


def test_absent_in_check_mode_deletes_nothing(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get",), out="configmap/c\n"))
    result = run_module(kube_apply, check_mode=True, state="absent", manifests=[CONFIG], **fake.options)
    assert result["changed"] is True
    fake.assert_all_made()


def test_text_is_read_by_kubectl_itself(kubectl: Make, run_module: RunModule) -> None:
    read = json.dumps(SPACE, indent=2) + "\n" + json.dumps(CONFIG)
    fake = kubectl(Call(("patch", "--local", "--patch={}"), out=read), Call(("diff",)), Call(("diff",)))
    run_module(kube_apply, manifests="kind: whatever\n", **fake.options)
    fake.assert_all_made()
    assert fake.calls[0]["stdin"] == "kind: whatever\n"
    assert not [word for word in fake.calls[0]["args"] if word.startswith("--kubeconfig")]
    assert (sent(fake.calls[1]), sent(fake.calls[2])) == ([SPACE], [CONFIG])


def test_bad_text(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("patch",), err="error: error parsing STDIN: yaml: line 1: no\n", rc=1))
    message = run_module(kube_apply, manifests="a: [", **fake.options)["msg"]
    assert message == "manifests: error: error parsing the text: yaml: line 1: no"


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n---\n"])
def test_text_without_objects(kubectl: Make, run_module: RunModule, text: str) -> None:
    fake = kubectl()
    assert run_module(kube_apply, manifests=text, **fake.options)["changed"] is False
    assert fake.calls == []


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ("x", "manifests: document 2 is no object but a str"),
        ({"kind": "Pod"}, "manifests: document 2 has no apiVersion"),
        ({"apiVersion": "v1"}, "manifests: document 2 has no kind"),
        ({"apiVersion": "v1", "kind": "Pod"}, "manifests: document 2 (Pod) has no metadata.name"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": None}, "manifests: document 2 (Pod) has no metadata.name"),
    ],
)
def test_what_is_no_object(kubectl: Make, run_module: RunModule, doc: Any, message: str) -> None:
    fake = kubectl()
    assert run_module(kube_apply, manifests=[CONFIG, doc], **fake.options)["msg"] == message
    assert fake.calls == []


def test_the_manifests_do_not_come_back_with_the_result(kubectl: Make, run_module: RunModule) -> None:
    """At -vvv Ansible shows a module's options."""
    fake = kubectl(Call(("diff",)))
    result = run_module(kube_apply, manifests=[SECRET], **fake.options)
    if "invocation" in result:  # newer versions of ansible-core give it only when it is asked for
        assert result["invocation"]["module_args"]["manifests"] == "not shown: may hold Secrets"
    assert "canary" not in json.dumps(result)


def test_no_kubectl(kubectl: Make, run_module: RunModule, tmp_path: Path) -> None:
    options = {**kubectl().options, "kubectl": str(tmp_path / "none")}
    message = run_module(kube_apply, manifests=[CONFIG], **options)["msg"]
    assert message == f"There is no kubectl at {tmp_path}/none: make the bundle, or name another."


def test_the_cache_is_beside_the_kubeconfig_and_no_foreign_diff_is_used(
    kubectl: Make, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_EXTERNAL_DIFF", "meld")
    fake = kubectl(Call(("diff",)))
    run_module(kube_apply, manifests=[CONFIG], **fake.options)
    env = fake.calls[0]["env"]
    assert env["KUBECACHEDIR"] == str(fake.folder / ".kube-cache")
    assert "KUBECTL_EXTERNAL_DIFF" not in env
