# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PATCH: what may be written on which kind of resource, and how a wrong value is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import Json, Refusal, Reply
from .tree import matches, schema

if TYPE_CHECKING:
    from .bmc import Bmc, Call

# Kind -> properties, with `/` for what is inside and `*` for anything.
WRITABLE: dict[str, tuple[str, ...]] = {
    "ComputerSystem": (
        "AssetTag", "HostName", "IndicatorLED", "LocationIndicatorActive", "PowerRestorePolicy", "Oem/*",
        "Boot/BootSourceOverrideEnabled", "Boot/BootSourceOverrideTarget", "Boot/BootSourceOverrideMode",
        "Boot/BootOrder", "Boot/HttpBootUri", "Boot/UefiTargetBootSourceOverride", "Boot/StopBootOnFault",
        "Boot/AutomaticRetryConfig", "Boot/AutomaticRetryAttempts", "Boot/BootNext", "HostWatchdogTimer/*",
    ),
    "Bios": ("Attributes/*",),
    "SecureBoot": ("SecureBootEnable",),
    "Chassis": ("AssetTag", "IndicatorLED", "LocationIndicatorActive", "Location/*"),
    "Manager": ("DateTime", "DateTimeLocalOffset", "TimeZoneName", "LocationIndicatorActive", "ServiceIdentification",
                "AutoDSTEnabled", "Oem/*"),
    "EthernetInterface": (
        "AutoNeg", "FQDN", "HostName", "InterfaceEnabled", "MTUSize", "SpeedMbps", "FullDuplex", "MACAddress",
        "StaticNameServers", "IPv4StaticAddresses", "IPv6StaticAddresses", "IPv6StaticDefaultGateways", "VLAN/*",
        "IPv6AddressPolicyTable", "DHCPv4/*", "DHCPv6/*", "StatelessAddressAutoConfig/*", "IPv4Addresses", "Oem/*",
    ),
    "ManagerNetworkProtocol": (
        "HostName", "HTTP/*", "HTTPS/*", "SSH/*", "IPMI/*", "NTP/*", "SNMP/*", "KVMIP/*", "Telnet/*", "SSDP/*",
        "VirtualMedia/*", "DHCP/*", "DHCPv6/*", "RDP/*", "RFB/*", "Proxy/*", "Oem/*",
    ),
    "ManagerAccount": ("UserName", "Password", "RoleId", "Enabled", "Locked", "AccountTypes", "PasswordExpiration",
                       "PasswordChangeRequired", "SNMP/*", "StrictAccountTypes", "OEMAccountTypes", "Oem/*"),
    "AccountService": (
        "AccountLockoutThreshold", "AccountLockoutDuration", "AccountLockoutCounterResetAfter", "MinPasswordLength",
        "AccountLockoutCounterResetEnabled", "AuthFailureLoggingThreshold", "ServiceEnabled", "LocalAccountAuth",
        "LDAP/*", "ActiveDirectory/*", "HTTPBasicAuth", "PasswordExpirationDays", "Oem/*",
    ),
    "SessionService": ("SessionTimeout", "ServiceEnabled"),
    "UpdateService": ("ServiceEnabled", "HttpPushUriTargets", "HttpPushUriTargetsBusy", "HttpPushUriOptions/*",
                      "VerifyRemoteServerCertificate", "Oem/*"),
    "SoftwareInventory": ("WriteProtected",),
    "LogService": ("ServiceEnabled", "LogEntryType", "AutoDSTEnabled", "DateTime", "DateTimeLocalOffset"),
    "LogEntry": ("Resolved",),
    "VirtualMedia": ("Image", "Inserted", "WriteProtected", "UserName", "Password", "TransferMethod",
                     "TransferProtocolType", "VerifyCertificate", "Oem/*"),
    "Volume": ("Name", "DisplayName", "ReadCachePolicy", "WriteCachePolicy", "IOPerfModeEnabled", "Encrypted"),
    "Drive": ("AssetTag", "HotspareType", "IndicatorLED", "LocationIndicatorActive", "WriteCacheEnabled"),
    "Storage": ("HotspareActivationPolicy", "EncryptionMode", "AutoVolumeCreate", "LocalEncryptionKeyIdentifier"),
    "StorageController": ("ControllerRates/*",),
    "EventDestination": ("Context", "Destination", "VerifyCertificate", "DeliveryRetryPolicy", "HttpHeaders"),
    "EventService": ("ServiceEnabled", "DeliveryRetryAttempts", "DeliveryRetryIntervalSeconds"),
    "Port": ("InterfaceEnabled", "LocationIndicatorActive", "LinkNetworkTechnology"),
}  # fmt: skip
SECRET = ("Password",)


def patch(bmc: Bmc, call: Call, uri: str) -> Reply:
    """The plain case: valid values are taken at once."""
    body = bmc.tree.need(uri)
    check(bmc, call.body, body, schema(body))
    bmc.power.check_post(call, uri)
    merge(bmc.tree.edit(uri), call.body)
    bmc.power.patched(uri, call.body)
    return changed(bmc, uri)


def changed(bmc: Bmc, uri: str, status: int = 200) -> Reply:
    headers = {}
    etag = bmc.etag(uri)
    if etag is not None:
        headers["ETag"] = etag
    return Reply(status, bmc.tree.encoded(uri), headers)


def check(bmc: Bmc, sent: Json, now: Json, kind: str, prefix: str = "") -> None:
    """Raises on the first property that can't be written so. Nothing has been changed then."""
    if not sent:
        raise Refusal(400, "EmptyJSON")
    for name, value in sent.items():
        if name.startswith(("@odata.", "@Redfish.")):
            continue
        path = f"{prefix}{name}"
        allowed = WRITABLE.get(kind, ())
        related = f"#/{path}"
        inner = isinstance(value, dict) and any(item.startswith(f"{path}/") for item in allowed)
        if not inner and not any(matches(item, path) for item in allowed):
            known = name in now
            raise Refusal(400, "PropertyNotWritable" if known else "PropertyUnknown", name, related=related)
        if not inner and name not in now and name not in SECRET and "*" not in "".join(allowed):
            # Writable by the schema, but this BMC does not have it.
            raise Refusal(400, "PropertyUnknown", name, related=related)
        here = now.get(name)
        if inner and isinstance(here, dict):
            check(bmc, value, here, kind, f"{path}/")
            continue
        _check_value(name, value, here, now.get(f"{name}@Redfish.AllowableValues"), related)


def _check_value(name: str, value: Any, now: Any, allowed: Any, related: str) -> None:
    shown = value if name not in SECRET else "******"
    if isinstance(allowed, list) and allowed and value not in allowed and not isinstance(value, list):
        raise Refusal(400, "PropertyValueNotInList", shown, name, related=related)
    if value is None or now is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    was_number = isinstance(now, (int, float)) and not isinstance(now, bool)
    if number != was_number or (not number and type(value) is not type(now)):
        raise Refusal(400, "PropertyValueTypeError", shown, name, related=related)


def _merged(now: list[Any], sent: list[Any]) -> list[Any]:
    """An empty object leaves an element as it is, null takes it away; what is not sent goes."""
    found = []
    for number, item in enumerate(sent):
        old = now[number] if number < len(now) else None
        if item == {} and old is not None:
            found.append(old)
        elif isinstance(item, dict) and isinstance(old, dict):
            found.append({**old, **item})
        elif item is not None:
            found.append(item)
    return found


def merge(body: Json, sent: Json) -> None:
    """Objects are merged, everything else is replaced. Passwords are not kept."""
    for name, value in sent.items():
        if name.startswith(("@odata.", "@Redfish.")):
            continue
        if name in SECRET:
            body[name] = None
        elif isinstance(value, dict) and isinstance(body.get(name), dict):
            merge(body[name], value)
        elif isinstance(value, list) and isinstance(body.get(name), list):
            body[name] = _merged(body[name], value)
        else:
            body[name] = value
