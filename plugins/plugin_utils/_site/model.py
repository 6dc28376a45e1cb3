# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The site model as typed objects. Nothing here reads a file or a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...module_utils._clevis import Unlock

__all__ = [
    "SDN_DRIVERS",
    "BlockStorage",
    "Bmc",
    "Bond",
    "Cache",
    "Cluster",
    "Deploy",
    "DiskSelector",
    "Fabric",
    "Ingress",
    "Limits",
    "Network",
    "Network6",
    "Pool",
    "Problem",
    "Profile",
    "Rack",
    "RaidVolume",
    "Sdn",
    "Sdn6",
    "SdnDriver",
    "Sds",
    "Server",
    "Site",
    "SiteError",
    "Switch",
    "Target",
    "Volume",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a site file: where, what, and what would be right."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class SiteError(ValueError):
    """A site file is refused. `problems` holds everything that is wrong in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Network6:
    """IPv6 addresses of a network. See C(ipam.address6) for which one is whose."""

    cidr: str
    gateway: str | None


@dataclass(frozen=True)
class Network:
    name: str
    cidr: str
    gateway: str | None
    vlan: int | None
    untagged: bool
    mtu: int
    ipv6: Network6 | None = None

    @property
    def tag(self) -> int | None:
        """The VLAN as servers see it; none: their packets have no tag."""
        return None if self.untagged else self.vlan


@dataclass(frozen=True)
class Deploy:
    """Addresses of the control host, where images are fetched from."""

    address: str
    bmc_address: str
    port: int


@dataclass(frozen=True)
class Limits:
    power_ons: int
    rack_power_ons: int | None
    """Of one rack; none: only C(power_ons) holds."""
    image_writes: int
    joins: int
    drain_timeout: int
    """Seconds within which the pods of a server must have left it."""
    max_unavailable: Mapping[str, int | str]
    """Group name to a budget: a number of servers, or a percentage such as C(10%)."""


@dataclass(frozen=True)
class DiskSelector:
    """Which disks serve a purpose. Without `count` any number from one."""

    select: str
    count: int | None
    wipe_method: str | None = None
    """How those that a server lets be wiped are wiped; of data disks only."""


@dataclass(frozen=True)
class Volume:
    """A logical volume. Without `size` all that is left."""

    name: str
    size: str | None
    type: str
    thin_pool: str | None
    filesystem: str | None
    mount: str | None


@dataclass(frozen=True)
class Cache:
    """Faster disks in front of one volume of a pool."""

    select: str
    count: int
    volume: str
    mode: str


@dataclass(frozen=True)
class Pool:
    """Disks and what is on them: an array, a container, then volumes or one file system."""

    name: str
    select: str
    count: int
    raid: str | None
    metadata: str
    luks: bool | Unlock
    """A container; an Unlock: and what opens it at boot."""
    filesystem: str | None
    mount: str | None
    volumes: tuple[Volume, ...]
    cache: Cache | None = None


@dataclass(frozen=True)
class Target:
    """A storage server: a target of iSCSI, or a subsystem of NVMe over TCP, and its portals."""

    name: str
    target: str
    portals: tuple[str, ...]
    chap: bool = False


@dataclass(frozen=True)
class BlockStorage:
    iscsi: tuple[Target, ...]
    nvme_of: tuple[Target, ...]
    multipath: tuple[Mapping[str, str | int], ...]


@dataclass(frozen=True)
class Bond:
    mode: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class FirmwareBaseline:
    component: str
    """Id, name or glob of entries in the firmware inventory of the BMC."""
    version: str | None
    minimum: str | None
    """One of the two is given: exactly this version, or at least that one."""


@dataclass(frozen=True)
class RaidVolume:
    """A volume of one of the BMC's controllers."""

    name: str
    raid_type: str
    drives: tuple[str, ...]
    """By Id or serial number."""
    controller: str | None
    """None: the only one that has volumes."""


@dataclass(frozen=True)
class Profile:
    name: str
    expect: tuple[str, ...]
    firmware: tuple[FirmwareBaseline, ...]
    disks: Mapping[str, DiskSelector]
    """By purpose: `system`, and `data` if the profile states it."""
    network: Bond
    serial: int | str | None
    """Budget: how many servers in service are disrupted at once; none: as many as the other limits allow."""
    power_on_watts: int | None
    storage: tuple[Pool, ...] = ()
    bios: Mapping[str, str | int | bool] = field(default_factory=dict)
    """BIOS attribute to its value, both as the maker names them."""
    volumes: tuple[RaidVolume, ...] = ()
    block_storage: BlockStorage | None = None


@dataclass(frozen=True)
class Rack:
    name: str
    power_on_watts: int | None
    """What its servers may draw together while they start; none: no limit in watts."""


@dataclass(frozen=True)
class Switch:
    name: str
    rack: str
    unit: int | None
    os: str
    address: str
    asn: int | None
    loopback: str | None
    mlag: int | None
    """MLAG domain; two switches with the same one are a pair."""
    addresses: Mapping[str, str]
    """By network that it routes."""
    cables: Mapping[str, str]
    """Own port to C(switch:port)."""
    exclusive: bool


@dataclass(frozen=True)
class Fabric:
    links: str | None
    """Network of the links between routing switches; none: BGP is unnumbered."""
    server_asn: int | None
    bfd_interval: int
    """Milliseconds."""
    bfd_multiplier: int


@dataclass(frozen=True)
class Bmc:
    address: str
    driver: str
    validate_certs: bool
    ca_path: str | None
    fingerprint: str | None
    timeout: int


@dataclass(frozen=True)
class Server:
    name: str
    rack: str
    unit: int | None
    roles: tuple[str, ...]
    profile: str
    bmc: Bmc
    addresses: Mapping[str, str]
    cables: Mapping[str, str]
    """Own port, or C(bmc), to C(switch:port)."""
    pod_cidr: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    wipe: tuple[str, ...]
    reinstall: str | None
    pod_cidr6: str | None = None

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        """Its pod ranges: of IPv4, and of IPv6 where pods have it."""
        return (self.pod_cidr, *((self.pod_cidr6,) if self.pod_cidr6 else ()))


@dataclass(frozen=True)
class Sdn6:
    pods: str
    services: str
    node_prefix: int


@dataclass(frozen=True)
class SdnDriver:
    """What a network driver does itself, and what it can be together with."""

    overlay: bool = False
    """Pods travel between servers in packets of the servers."""
    masquerade: bool = False
    """Outside, pods are seen with their server's address."""
    policies: bool = False
    """It enforces NetworkPolicy objects."""
    kube_proxy_replacement: bool = False
    """Services work without kube-proxy."""
    node_pod_cidr: bool = False
    """It reads a server's range of pods in C(spec.podCIDR) of the Node object."""
    ipv6: bool = True
    load_balancer: bool = True
    """A driver of C(cluster.load_balancer) works beside it."""
    routed_links: bool = True
    """Servers may have C(network.mode) C(bgp)."""


SDN_DRIVERS: Mapping[str, SdnDriver] = {
    "bgp": SdnDriver(),
    "cilium": SdnDriver(
        overlay=True,
        masquerade=True,
        policies=True,
        kube_proxy_replacement=True,
        node_pod_cidr=True,
        ipv6=False,
        load_balancer=False,
        routed_links=False,
    ),
}
"""By name. What renders them is in C(_drivers/sdn_drivers.py)."""


@dataclass(frozen=True)
class Sdn:
    driver: str
    pods: str
    services: str
    node_prefix: int
    policies: str | None
    """What enforces NetworkPolicy objects; none: nothing does."""
    overlay: str | None
    """C(vxlan), or none: the fabric knows where pods are, unless the driver has an overlay of its own."""
    masquerade: bool | None
    """Outside, pods are seen with their server's address. None: with an overlay they are, without one they are not."""
    ipv6: Sdn6 | None = None

    @property
    def pod_networks(self) -> tuple[str, ...]:
        return (self.pods, *((self.ipv6.pods,) if self.ipv6 else ()))

    @property
    def service_networks(self) -> tuple[str, ...]:
        return (self.services, *((self.ipv6.services,) if self.ipv6 else ()))

    @property
    def hidden(self) -> bool:
        """The fabric sees packets between servers only and knows no pods."""
        return self.overlay is not None or self._own.overlay

    @property
    def masquerades(self) -> bool:
        """Outside, pods are seen with their server's address."""
        return self.hidden or self._own.masquerade or self.masquerade is True

    @property
    def policy_engine(self) -> str | None:
        """What enforces NetworkPolicy objects, the driver itself where it does; none: nothing does."""
        return self.driver if self._own.policies else self.policies

    @property
    def kube_proxy(self) -> bool:
        """Services are kube-proxy's."""
        return not self._own.kube_proxy_replacement

    @property
    def node_pod_cidr(self) -> bool:
        """Node objects must have the range of their server's pods: the driver reads it there."""
        return self._own.node_pod_cidr

    @property
    def _own(self) -> SdnDriver:
        return SDN_DRIVERS[self.driver]


@dataclass(frozen=True)
class Sds:
    driver: str
    server: str | None = None
    """With C(nfs): a server of the site, or the address of a filer. With C(iscsi): a server of the site."""
    export: str | None = None
    """With C(nfs): the exported directory on that server."""
    volume_group: str | None = None
    """With C(lvm) and C(iscsi): the pool of profiles whose volume group holds the volumes."""
    mount_options: tuple[str, ...] = ()
    monitors: tuple[str, ...] = ()
    """With C(ceph): the servers with a monitor."""
    osds: tuple[str, ...] = ()
    """With C(ceph): the pools of profiles that are OSDs, each of one disk with one volume."""
    portals: tuple[str, ...] = ()
    """With C(iscsi): C(address:port) of the server; none: one, its node address."""


@dataclass(frozen=True)
class Ingress:
    driver: str | None = None
    """What serves Ingress objects and the Gateway API; none: nothing of the collection does."""
    address: str | None = None
    """Of the load balancer's pools; none: the load balancer chooses one."""
    http_node_port: int = 30080
    """Where there is no load balancer: port on every node."""
    https_node_port: int = 30443


@dataclass(frozen=True)
class Cluster:
    kubernetes: str
    endpoint: str
    endpoint_by: str
    """C(server): it is a control-plane server's. C(bgp): each one announces it while its API server is ready."""
    sdn: Sdn
    load_balancer: str | None
    """Driver that gives Services of type LoadBalancer their addresses; none: somebody else does."""
    pools: tuple[str, ...]
    """Address ranges for them."""
    ingress: Ingress
    sds: tuple[Sds, ...]
    extra_args: Mapping[str, Mapping[str, Any]]
    """By part: etcd, api_server, controller_manager, scheduler, kubelet_config, liveness, readiness."""


@dataclass(frozen=True)
class Site:
    name: str
    domain: str
    ntp: tuple[str, ...]
    dns: tuple[str, ...]
    networks: Mapping[str, Network]
    deploy: Deploy
    limits: Limits
    discover: tuple[str, ...]
    """Addresses, networks and ranges where BMCs may be that the model does not know."""
    profiles: Mapping[str, Profile]
    racks: tuple[Rack, ...]
    switches: tuple[Switch, ...]
    fabric: Fabric
    servers: tuple[Server, ...]
    cluster: Cluster

    def server(self, name: str) -> Server:
        """The server of this name; KeyError if there is none."""
        for server in self.servers:
            if server.name == name:
                return server
        raise KeyError(name)

    @property
    def with_layouts(self) -> set[str]:
        """Names of the servers whose profile states pools, or disks of storage servers."""
        asked = {name for name, profile in self.profiles.items() if profile.storage or profile.block_storage}
        return {server.name for server in self.servers if server.profile in asked}

    def with_role(self, role: str) -> tuple[Server, ...]:
        return tuple(server for server in self.servers if role in server.roles)
